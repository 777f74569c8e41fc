"""Every example runs as it stands, on two ranks, in a short form of itself."""

import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.jobs import ROOT, dbp, run

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
RUN = ("run", "-n", "2", "--")
TWO_EPOCHS = ("--set", "epochs=2")
FEW_CURVES = ("--examples", "400", "--iterations", "10", "--rate", "1e-4")

# The words after the example's name that make it short, and what it prints at its end.
SHORT = {
    "autoencoder.py": (("--epochs", "2"), r"autoencoder: 0\.\d+\n.*PCA with 8 components: 0\.0244"),
    "burgers.py": (("--epochs", "2", "--stages", "1", "--iterations", "3"), r"L-BFGS: relative L2 error [\d.]+ %"),
    "curves.py --method newton": (("--epochs", "3", *FEW_CURVES), r"squared error of a test image: [\d.]+"),
    "curves.py --method sgd": (("--epochs", "2", *FEW_CURVES), r"squared error of a test image: [\d.]+"),
    "digits-conv.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\.9"),
    "digits-residual.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\."),
    "digits.py": ((), r"test: cost [\d.]+  accuracy 0\.9"),
    "digits.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\."),
    "fashion-conv.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy [\d.]+  \(64 examples\)"),
    "fashion.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy [\d.]+  \(64 examples\)"),
    "logistic.py": (("--epochs", "2"), r"test: cost [\d.]+  accuracy 0\."),
    "text.py lstm": (("--text", "fox.txt", "--epochs", "2"), r" \.\.\. [Tthequickbrownfxjmpsvlazydg\s]+"),
    "text.py transformer": (("--text", "fox.txt", "--epochs", "2"), r" \.\.\. [Tthequickbrownfxjmpsvlazydg\s]+"),
}


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {words.split()[0] for words in SHORT}


def write_clothes(folder: Path) -> None:
    """Write files like those of Fashion-MNIST: images of bytes, each class with its own brightness."""
    rng = np.random.default_rng(0)
    for name, count in (("fashion-train.h5", 512), ("fashion-test.h5", 64)):
        kinds = rng.integers(0, 10, count)
        with h5py.File(folder / name, "w") as file:
            file["inputs"] = (25 * kinds[:, None, None] + rng.integers(0, 25, (count, 28, 28))).astype(np.uint8)
            file["inputs"].attrs["scale"] = 1 / 255
            file["targets"] = kinds.astype(np.uint8)


@pytest.mark.parametrize("example", SHORT)
def test_an_example_runs_on_two_ranks(tmp_path, example):
    name, *model = example.split()
    words, ending = SHORT[example]
    write_clothes(tmp_path)
    (tmp_path / "fox.txt").write_text("The quick brown fox jumps over the lazy dog\n" * 120)
    train = ["train"] if name.endswith(".toml") else []
    file = shutil.copy(EXAMPLES / name, tmp_path) if train else EXAMPLES / name  # data lies beside its config
    outcome = dbp(*RUN, *train, file, *model, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    assert "2 ranks" in outcome.out
    costs = [float(cost) for cost in re.findall(r"^[* ] +\d+/\d+ +(\S+)", outcome.out, re.MULTILINE)]
    assert len(costs) >= 2
    assert np.isfinite(costs).all()
    assert costs[-1] < costs[0]
    assert re.search(ending, outcome.out), outcome.out


def test_a_text_that_cannot_be_read_is_told_in_one_line(tmp_path):
    outcome = run(sys.executable, EXAMPLES / "text.py", "lstm", "--text", "nothere", cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "text.py: nothere cannot be read: No such file or directory\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_says_how_it_is_started(path):
    if path.is_file():
        start = "train " if path.suffix == ".toml" else ""
        assert f"dbp run -n 2 -- {start}examples/{path.name}" in path.read_text()

"""Every example runs as it stands, on two ranks, in a short form of itself."""

import importlib.util
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.jobs import ROOT, dbp, run

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
RUN = ("run", "-n", "2", "--")
TWO_EPOCHS = ("--set", "epochs=2")
CURVES = ("--epochs", "3", "--examples", "400"), r"squared error of a test image: [\d.]+"

# The words after the example's name that make it short, and what it prints at its end.
SHORT = {
    "autoencoder.py": (("--epochs", "2"), r"autoencoder: 0\.\d+\n.*PCA with 8 components: 0\.0244"),
    "burgers.py": (
        ("--epochs", "2", "--stages", "1", "--iterations", "3"),
        r"stage 1: relative L2 error [\d.]+ %",
    ),
    "co2.py": (("--epochs", "3"), r"LSTM: error [\d.]+ ppm, from [\d.]+ after one month to [\d.]+ after twelve"),
    "curves.py --method adam": CURVES,
    "curves.py --method kfac": CURVES,
    "curves.py --method newton": CURVES,
    "curves.py --method sgd": CURVES,
    "deeponet.py": (("--functions", "400", "--epochs", "3"), r"functions that vary over 0\.1: relative L2 error \d+ %"),
    "digits-conv.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\.9"),
    "digits-residual.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\."),
    "digits.py": ((), r"test: cost [\d.]+  accuracy 0\.9"),
    "digits.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy 0\."),
    "fashion-conv.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy [\d.]+  \(64 examples\)"),
    "fashion.toml": (TWO_EPOCHS, r"test: cost [\d.]+  accuracy [\d.]+  \(64 examples\)"),
    "fourier_operator.py": (
        ("--functions", "100", "--epochs", "2", "--points", "32"),
        r"64 points: relative L2 error \d+ %",
    ),
    "inverse_burgers.py": (
        ("--measurements", "200", "--epochs", "5", "--iterations", "3"),
        r"L-BFGS: a = [-\d.]+ \([\d.]+ % off\), b = 0\.\d+ ",
    ),
    "logistic.py": (("--epochs", "2"), r"test: cost [\d.]+  accuracy 0\."),
    "mlflow_run.py": ((), r"test: cost [\d.]+  accuracy 0\.[89]"),
    "poisson.py": (
        ("--steps", "3", "--more", "2", "--gauss-newton", "2"),
        r"Gauss-Newton, 2 steps instead: cost 0\.\d+, relative",
    ),
    "surrogate.py": (
        ("--plates", "100", "--epochs", "2"),
        r"temperature: relative L2 error \d+ %\nheat: relative L2 error \d+ %",
    ),
    "text.py lstm": (("--text", "fox.txt", "--epochs", "2"), r" \.\.\. [Tthequickbrownfxjmpsvlazydg\s]+"),
    "text.py transformer": (("--text", "fox.txt", "--epochs", "2"), r" \.\.\. [Tthequickbrownfxjmpsvlazydg\s]+"),
    "tied.py": (("--epochs", "2"), r"K-FAC, 2 epochs, 4 steps: mean squared error of test images 0\.\d+"),
    "unet.py": (("--images", "40", "--epochs", "2"), r"intersection over union: \d\.\d+"),
    "wandb_run.py": ((), r"test: cost [\d.]+  accuracy 0\.[89]"),
}

# Stands in for a library that is not installed: writes down the calls of its functions. An installed one works offline.
STAND_IN = """
import pathlib

def __getattr__(name):
    def call(*values, **options):
        with pathlib.Path("calls.txt").open("a") as file:
            print(name, *values, *options.items(), file=file)
    return call
"""
OFFLINE = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": "file:mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
# The libraries that examples report to, and how often each function is called in three epochs of 23 steps.
CALLS = {
    "mlflow": {"set_experiment": 1, "start_run": 1, "log_params": 1, "log_metrics": 3 + 1, "end_run": 1},
    "wandb": {"init": 1, "log": 6 + 3 + 1, "finish": 1},
}


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {words.split()[0] for words in SHORT}


def costs_in(text: str) -> list[float]:
    """Return the costs in the table of epochs, in whose first lines stand the names of the columns."""
    names = next((line.split() for line in text.splitlines() if line.split()[:1] == ["epoch"]), ["epoch", "cost"])
    rows = re.findall(r"^[* ] +(\d+/\d+ .+)", text, re.MULTILINE)
    return [float(row.split()[names.index("cost")]) for row in rows]


def write_clothes(folder: Path) -> None:
    """Write files like those of Fashion-MNIST: images of bytes, each class with its own brightness."""
    rng = np.random.default_rng(0)
    for name, count in (("fashion-train.h5", 512), ("fashion-test.h5", 64)):
        kinds = rng.integers(0, 10, count)
        with h5py.File(folder / name, "w") as file:
            file["inputs"] = (25 * kinds[:, None, None] + rng.integers(0, 25, (count, 28, 28))).astype(np.uint8)
            file["inputs"].attrs["scale"] = 1 / 255
            file["targets"] = kinds.astype(np.uint8)


def write_stand_in(folder: Path, library: str) -> str:
    """Write a module in place of a library that an example reports to, and return its name; "" if it is installed."""
    if library not in CALLS or importlib.util.find_spec(library):
        return ""
    (folder / f"{library}.py").write_text(STAND_IN)
    return library


@pytest.mark.parametrize("example", SHORT)
def test_an_example_runs_on_two_ranks(tmp_path, example):
    name, *model = example.split()
    words, ending = SHORT[example]
    write_clothes(tmp_path)
    (tmp_path / "fox.txt").write_text("The quick brown fox jumps over the lazy dog\n" * 120)
    stood_in = write_stand_in(tmp_path, name.removesuffix("_run.py"))
    train = ["train"] if name.endswith(".toml") else []
    file = shutil.copy(EXAMPLES / name, tmp_path) if train else EXAMPLES / name  # data lies beside its config
    outcome = dbp(*RUN, *train, file, *model, *words, cwd=tmp_path, env=OFFLINE | {"PYTHONPATH": str(tmp_path)})
    assert outcome.code == 0, outcome.text
    assert "2 ranks" in outcome.out
    costs = costs_in(outcome.out)
    assert len(costs) >= 2
    assert np.isfinite(costs).all()
    assert costs[-1] < costs[0]
    assert re.search(ending, outcome.out), outcome.out
    if stood_in:
        calls = [line.split()[0] for line in (tmp_path / "calls.txt").read_text().splitlines()]
        assert Counter(calls) == CALLS[stood_in]


def test_a_text_that_cannot_be_read_is_told_in_one_line(tmp_path):
    outcome = run(sys.executable, EXAMPLES / "text.py", "lstm", "--text", "nothere", cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "text.py: nothere cannot be read: No such file or directory\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_says_how_it_is_started(path):
    if path.is_file():
        start = "train " if path.suffix == ".toml" else ""
        assert f"dbp run -n 2 -- {start}examples/{path.name}" in path.read_text()

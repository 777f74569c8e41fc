"""dbp new: a folder with a config that trains at once."""

import re
import shlex

import h5py
import numpy as np
import pytest

from tests.jobs import ROOT

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(run_command):
    """Return a function that runs a command in this process; it returns its exit code and all that it printed."""

    def run(*words):
        code, out, err = run_command(*words)
        return code, out + err

    return run


def write_wines(path, count=90, with_cultivar=True):
    """Write a table with words, a date and an empty cell, in which the cultivar follows from the alcohol."""
    rows = [",".join(["alcohol", "color", "bottled", *["cultivar"] * with_cultivar])]
    for row in range(count):
        kind = row % 3
        alcohol = "" if row == 4 else f"{11 + kind + RNG.uniform(-0.4, 0.4):.2f}"
        cells = [alcohol, ("red", "white")[row % 2], f"2019-03-{1 + row % 28:02}", *[("ada", "bea", "cleo")[kind]]]
        rows.append(",".join(cells[: 3 + with_cultivar]))
    path.write_text("\n".join(rows))


def test_from_a_table_to_predictions_with_the_commands_of_the_page(tmp_path, command):
    write_wines(tmp_path / "wine.csv")
    write_wines(tmp_path / "new_wines.csv", 5, with_cultivar=False)
    page = (ROOT / "docs" / "data.md").read_text()
    section = page[page.index("## The shortest way") : page.index("## Tables")]
    for line in re.search("```sh\n(.*?)```", section, re.DOTALL).group(1).splitlines():
        words = shlex.split(line)
        words = words[5:] if words[1] == "run" else words[1:]  # on one rank
        code, text = command(*words, *(["--set", "epochs=4"] if words[0] == "train" else []))
        assert code == 0, text
        if words[0] == "new":
            assert "alcohol: 1 missing, filled with" in text
            assert "wine/wine.toml: 90 examples of 4 inputs, and 3 classes (ada, bea, cleo) to predict" in text
            assert "train:    dbp train wine/wine.toml\n" in text
            assert "the target is" not in text  # the user has named it
    assert (tmp_path / "predictions.csv").read_text().startswith("row,label,ada,bea,cleo\n0,")


def test_the_digits_by_default(tmp_path, command):
    code, text = command("new", "first")
    assert (code, [path.name for path in (tmp_path / "first").iterdir()]) == (0, ["first.toml"])
    assert "1,438 examples of shape 8x8, and 10 classes" in text
    code, text = command("train", "first/first.toml", "--set", "epochs=1")
    assert code == 0, text
    assert "test: cost" in text


def test_classes_that_are_numbers(tmp_path, command):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{row},{1 + row % 2}\n" for row in range(40)))
    code, text = command("new", "numbers", "--from", "t.csv")
    assert (code, text.count("note: if these numbers are classes, begin anew with --classes 1,2\n")) == (0, 1)
    assert "\nthe target is column 'y', the last; for another, begin anew with --target COLUMN\n" in text
    code, text = command("new", "classes", "--from", "t.csv", "--classes", "1,2")
    assert (code, "and 2 classes (1, 2) to predict" in text, "note:" in text) == (0, True, False)


def test_a_data_file_with_other_names(tmp_path, command):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"], file["y"] = RNG.random((40, 3)), RNG.random((40, 2))
    code, text = command("new", "made", "--from", "d.h5")
    assert (code, (tmp_path / "made").exists()) == (2, False)
    assert "has no data set 'inputs'; it has x, y" in text
    assert "--inputs NAME and --targets NAME" in text
    code, text = command("new", "made", "--from", "d.h5", "--inputs", "x", "--targets", "y")
    assert code == 0, text
    assert 'train = "../d.h5"\ninputs = "x"\ntargets = "y"' in (tmp_path / "made" / "made.toml").read_text()
    code, text = command("train", "made/made.toml", "--set", "epochs=1")
    assert code == 0, text


def test_a_folder_of_images(tmp_path, command):
    image = pytest.importorskip("PIL.Image")
    for row in range(24):
        kind = ("cat", "dog")[row % 2]
        (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
        image.fromarray(RNG.integers(0, 256, (12, 10, 3), np.uint8)).save(tmp_path / "photos" / kind / f"{row}.png")
    code, text = command("new", "pets", "--from", "photos", "--size", "16x16")
    assert code == 0, text
    assert "24 examples of shape 16x16x3, and 2 classes (cat, dog) to predict" in text
    code, text = command("train", "pets/pets.toml", "--set", "epochs=1")
    assert code == 0, text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["there"], "there exists and is not an empty folder; choose another name"),
        (["n", "--from", "none.csv"], r"--from none.csv does not exist \(looked for /"),
        (["n", "--from", "t.csv", "--size", "8x8"], "--size has no meaning for a table; leave it out"),
        (["n", "--target", "y"], "--target has no meaning for the digits; leave it out"),
        (["n", "--from", "t.csv", "--target", "z"], "t.csv has no column 'z'"),
        (["a\nb"], "has characters that a config cannot show; rename it"),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path, command, words, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "there.toml").write_text("mine")
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3,4\n")
    code, text = command("new", *words)
    assert code == 2
    assert re.search(message, text)
    assert not (tmp_path / "n").exists()
    assert (tmp_path / "there" / "there.toml").read_text() == "mine"

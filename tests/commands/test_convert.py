"""dbp convert as the page on data shows it: from tables and images to predictions by name."""

import csv
import re
import shlex

import h5py
import numpy as np
import pytest

from dbp.cli import main
from tests.jobs import ROOT, dbp, newest_checkpoint

PAGE = (ROOT / "docs" / "data.md").read_text()
RNG = np.random.default_rng(0)


def section(name):
    """Return the text of a section of the page."""
    return re.search(rf"^## {name}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL).group(1)


def run_section(name):
    """Run the commands of a section in this folder, with its config; return what they print."""
    text, printed = section(name), []
    for config in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        (folder,) = re.findall(r'^out = "runs/(\w+)"', config, re.MULTILINE)
        with open(f"{folder}.toml", "w") as file:  # noqa: PTH123  # in this folder
            file.write(config)
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in commands.splitlines():
        outcome = dbp(*shlex.split(line)[1:])
        assert outcome.code == 0, f"{line}: {outcome.text}"
        printed.append(outcome.out)
    return printed


def write_patients(path, count, with_diagnosis):
    """Write a table in which the diagnosis follows from age and dose; a value is missing."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["patient", "visit", "age", "clinic", "dose", *["diagnosis"] * with_diagnosis])
        for row in range(count):
            age, dose = RNG.integers(20, 90), RNG.uniform(0, 10)
            truth = "ill" if age / 9 > dose else "well"
            shown = "" if row == 7 else f"{dose:.2f}"
            clinic = ("north", "south")[row % 2]
            day = f"2019-{1 + row % 12:02}-{1 + row % 28:02}"
            table.writerow([f"P{row}", day, age, clinic, shown, *[truth] * with_diagnosis])


@pytest.mark.slow
def test_from_a_table_of_patients_to_predictions_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_patients(tmp_path / "patients.csv", 400, with_diagnosis=True)
    write_patients(tmp_path / "new_patients.csv", 9, with_diagnosis=False)
    made, _, coded, _ = run_section("Tables")
    assert made.splitlines()[1:3] == [
        "  visit: days since 2019-01-01",
        "  clinic: one column for each of 'north', 'south'",
    ]
    assert re.search(r"dose: 1 missing, filled with \d", made)
    assert newest_checkpoint("runs/patients").history["validation_accuracy"][-1] > 0.85
    assert "dose: 1 missing" in coded
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "label", "ill", "well"]
    assert [row["id"] for row in rows] == [f"P{number}" for number in range(9)]
    assert {row["label"] for row in rows} <= {"ill", "well"}


@pytest.mark.slow
def test_from_a_folder_of_images_to_predictions_by_name(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    for row in range(306):
        pixels = RNG.integers(0, 100, (48, 40, 3)).astype(np.uint8)
        pixels[10:30, 10:30, row % 2] += 100  # red or green
        folder = tmp_path / "more" if row >= 300 else tmp_path / "photos" / ("apple", "leaf")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(folder / f"{row}.png")
    made, _, _, _ = run_section("Images")
    assert "apple 150, leaf 150" in made
    assert newest_checkpoint("runs/photos").history["validation_accuracy"][-1] > 0.9
    with (tmp_path / "predictions.csv").open() as file:
        found = {row["file"]: row["label"] for row in csv.DictReader(file)}
    assert found == {f"{row}.png": ("apple", "leaf")[row % 2] for row in range(300, 306)}


def test_files_that_become_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("part-1.h5", "part-2.h5"):
        with h5py.File(name, "w") as file:
            file["inputs"], file["targets"] = RNG.random((5, 2)), np.arange(5)
    with h5py.File("measured.h5", "w") as file:
        file["train/pixels"], file["train/label"] = RNG.random((4, 2)), np.arange(4)
    (commands,) = re.findall(r"```sh\n(.*?)```", section("HDF5 files"), re.DOTALL)
    assert [main(shlex.split(line)[1:]) for line in commands.splitlines()] == [0, 0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "all.h5: 10 examples (inputs float64 10 x 2, targets int64 10)",
        "picked.h5: 4 examples (inputs float64 4 x 2, targets int64 4)",
        "packed.h5: 10 examples (inputs float64 10 x 2, targets int64 10)",
    ]
    with h5py.File("packed.h5") as packed, h5py.File("part-2.h5") as part:
        assert packed["inputs"].compression == "gzip"
        np.testing.assert_array_equal(packed["inputs"][5:], part["inputs"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["csv", "--no-target", "--target", "a"],
            "--no-target says that there are no targets, but --target names some",
        ),
        (["csv", "--like", "x.h5", "--drop", "a"], "--drop is taken from x.h5; leave it out, or leave out --like"),
        (
            ["csv", "--like", "x.h5", "--missing", "median"],
            "medians are not taken anew with --like; leave --missing",
        ),
        (["csv", "--missing", "often"], "--missing takes error, mean, median, drop or a number, but is 'often'"),
        (["csv", "--order", "size"], "--order takes COLUMN=..., but is 'size'"),
        (["csv", "--like", "none.h5"], "data file none.h5 does not exist"),
        (["hdf5", "--chunks", "0"], "--chunks takes a number of rows, at least 1, or auto, but is '0'"),
        (["images", "--like", "x.h5", "--size", "3"], "size and channels are those of x.h5; leave out --size"),
        (["images", "--size", "big"], "--size takes width and height in pixels"),
    ],
)
def test_mistakes_in_the_command_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", words[0], "in", "out.h5", *words[1:]]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_is_not_written_over_and_folders_are_looked_for_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_patients(tmp_path / "t.csv", 9, with_diagnosis=True)
    assert main(["convert", "csv", "t.csv", "train.h5", "--id", "patient", "--missing", "mean"]) == 0
    before = (tmp_path / "train.h5").read_bytes()
    assert main(["convert", "csv", "t.csv", "train.h5", "--like", "train.h5", "--overwrite"]) == 2
    assert "train.h5 is train.h5, an input of this command" in capsys.readouterr().err
    assert (tmp_path / "train.h5").read_bytes() == before
    assert main(["convert", "csv", "none.csv", "none/train.h5"]) == 74
    assert "none/train.h5 cannot be written: No such file or directory" in capsys.readouterr().err

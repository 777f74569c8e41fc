"""A run on data that is too large to be checked at the start: the same bits, and bad rows found as they are read."""

import os

import h5py
import numpy as np
import pytest

import dbp.data.identity
from dbp.cli import main
from dbp.data import FileSource
from dbp.run.data_check import DataCheck
from dbp.run.sources import Sources
from tests.jobs import digest
from tests.small_data import X, Y

CONFIG = """
loss = "cross_entropy"
epochs = 2
batch_size = 20
shards = 2
optimizer = "adam"
model.layers = [{ kind = "dense", units = 3 }]
data.train = "train.h5"
"""


def write(path, x=X, y=Y):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = x, y


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with data that counts as large, and a config."""
    monkeypatch.setattr(dbp.data.identity, "CHECKED_AT_START_BYTES", 100)
    write(tmp_path / "train.h5")
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def train(folder, *words):
    return main(["train", f"{folder}/config.toml", "--out", f"{folder}/run", *words])


def test_large_data_gives_the_bits_of_small_data(folder, monkeypatch):
    assert train(folder, "--set", "data.validation=0.2", "--set", f"data.test={folder}/train.h5") == 0
    large = digest(folder / "run")
    monkeypatch.undo()
    assert train(folder, "--fresh", "--set", "data.validation=0.2", "--set", f"data.test={folder}/train.h5") == 0
    assert digest(folder / "run") == large


BAD = np.where(np.arange(60)[:, None] == 41, np.nan, X)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_bad_row_ends_the_run_when_it_is_read(folder, capsys, part):
    write(folder / f"{part}.h5", BAD)
    words = () if part == "train" else ("--set", f"data.{part}={folder}/{part}.h5")
    assert train(folder, *words) == 65
    expected = f"{folder}/{part}.h5: inputs must be finite, but those of example 41 contain nan"
    assert expected in capsys.readouterr().err


def test_a_bad_row_of_a_part_for_validation_has_its_number_in_the_file(folder, capsys):
    write(folder / "train.h5", BAD)
    assert train(folder, "--set", "data.validation=0.5") == 65
    assert "those of example 41 contain nan" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "checked"), [(0, range(5)), (3, range(3, 10)), (5, range(5, 10))])
def test_rows_are_checked_until_a_whole_epoch_was_read(folder, first, checked):
    data = FileSource([f"{folder}/train.h5"]).open()
    check = DataCheck(Sources(data, None, None, {"train": data}), np.dtype("float32"), lambda examples, first: None, 5)
    assert [step for step in range(first, 20) if check.of_step(step) is not None] == list(checked)
    assert check.of_evaluation("test") is None


def test_rows_are_checked_after_a_start_in_mid_epoch(folder, capsys):
    assert train(folder, "--set", "epochs=1", "--set", "checkpoint.every_steps=1") == 0
    sorted((folder / "run" / "checkpoints").glob("step-*.h5"))[-1].unlink()
    write(folder / "train.h5", BAD)
    capsys.readouterr()
    assert train(folder, "--accept", "data.train") == 65
    assert "example 41 contain nan" in capsys.readouterr().err


def test_data_that_was_copied_is_taken_and_said(folder, capsys):
    assert train(folder, "--set", "epochs=1") == 0
    os.utime(folder / "train.h5", ns=(1, 1))
    capsys.readouterr()
    assert train(folder) == 0
    assert "train data: files written since the checkpoint, but of the same size" in capsys.readouterr().out
    write(folder / "train.h5", X[::-1])
    assert train(folder, "--set", "epochs=3") == 2
    assert "train data: other examples now than in the checkpoint" in capsys.readouterr().err


def test_eval_checks_the_rows_that_it_reads(folder, capsys):
    assert train(folder) == 0
    capsys.readouterr()
    assert main(["eval", f"{folder}/run", f"{folder}/train.h5"]) == 0
    assert "(60 examples)" in capsys.readouterr().out
    write(folder / "bad.h5", BAD)
    assert main(["eval", f"{folder}/run", f"{folder}/bad.h5"]) == 65
    assert f"{folder}/bad.h5: inputs must be finite, but those of example 41" in capsys.readouterr().err

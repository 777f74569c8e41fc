"""The command dbp check: all rows of a data set, for a config or for none, on one rank and on several."""

import re

import h5py
import numpy as np
import pytest

import dbp.run.whole_check
from dbp.cli import main
from tests.jobs import mpirun
from tests.run.test_data_check import BAD, CONFIG, write
from tests.small_data import X, Y


@pytest.fixture
def check(tmp_path, capsys):
    """Return a function that checks a file in this process and returns its code, lines and errors."""
    (tmp_path / "config.toml").write_text(CONFIG)

    def run(*words):
        return main(["check", *map(str, words)]), *capsys.readouterr()

    return run


def test_good_data(tmp_path, check):
    write(tmp_path / "a.h5")
    code, text, _ = check(tmp_path / "a.h5")
    assert code == 0
    assert text.startswith(f"{tmp_path}/a.h5: 60 examples, 2.88 kB: all can be used in float32; digest ")
    code, fitting, _ = check(tmp_path / "a.h5", tmp_path / "config.toml")
    assert code == 0
    assert fitting == text.replace("float32;", "float32 and fit model and loss;")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (BAD, Y, "bad.h5: inputs must be finite, but those of example 41 contain nan"),
        (X, np.where(np.arange(60) == 7, 3, Y), "bad.h5: .*class.* of example 7 is 3|example 7"),
    ],
)
def test_bad_rows_have_the_code_of_bad_data(tmp_path, check, x, y, message):
    write(tmp_path / "bad.h5", x, y)
    code, _, text = check(tmp_path / "bad.h5", tmp_path / "config.toml")
    assert code == 65
    assert re.search(message, text)


def test_mistakes_of_the_user_have_a_code_of_their_own(tmp_path, check):
    write(tmp_path / "a.h5")
    assert check(tmp_path / "none.h5")[0] == 2
    code, _, text = check(tmp_path / "a.h5", "--set", "data.inputs=x")
    assert code == 2
    assert "has no data set 'x'; it has inputs, targets" in text
    (tmp_path / "other.toml").write_text(
        CONFIG.replace('{ kind = "dense"', '{ kind = "conv2d", size = 3, filters = 2 }, {kind = "dense"')
    )
    code, _, text = check(tmp_path / "a.h5", tmp_path / "other.toml")
    assert code == 2
    assert f"{tmp_path}/a.h5: does not fit the model: " in text


def test_progress_is_said(tmp_path, check, monkeypatch):
    monkeypatch.setattr(dbp.run.whole_check, "PROGRESS_SECONDS", 0.0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["targets"] = np.zeros((9000, 2), np.float32), np.zeros(9000, np.int32)
    code, _, text = check(tmp_path / "a.h5", "--set", "data.inputs=x")
    assert code == 0
    assert "checked 0% of 108 kB, " in text
    assert "checked 67% of 108 kB, " in text


@pytest.mark.slow
def test_ranks_check_their_parts(tmp_path):
    x = np.zeros((20_000, 2), np.float32)
    write(tmp_path / "a.h5", x, np.zeros(20_000, int))
    outcome = mpirun(2, "-m", "dbp", "check", tmp_path / "a.h5")
    assert outcome.code == 0, outcome.text
    assert "a.h5: 20,000 examples, 320 kB: all can be used in float32; digest " in outcome.out
    x[17_000] = np.inf
    write(tmp_path / "a.h5", x, np.zeros(20_000, int))
    outcome = mpirun(2, "-m", "dbp", "check", tmp_path / "a.h5")
    assert outcome.code == 65, outcome.text
    assert outcome.err.count("inputs must be finite, but those of example 17000 contain inf") == 1


SEQUENCES = CONFIG.replace(
    '{ kind = "dense"', '{ kind = "embedding", entries = 5, units = 2 }, { kind = "flatten" }, { kind = "dense"'
)


@pytest.mark.parametrize(("value", "shown"), [(9, "9"), (-1, "-1"), (0.5, "0.5")])
def test_numbers_that_a_layer_refuses_are_found_by_row_before_anything_is_written(
    tmp_path, check, capsys, monkeypatch, value, shown
):
    x = np.arange(60 * 4).reshape(60, 4) % 5 * np.float32(1)
    (tmp_path / "config.toml").write_text(SEQUENCES)
    write(tmp_path / "train.h5", x)
    assert check(tmp_path / "train.h5", tmp_path / "config.toml")[0] == 0
    x[41, 2] = value
    write(tmp_path / "train.h5", x)
    expected = (
        f"train.h5: inputs of example 41 do not fit the model: embedding_1: takes whole numbers from 0 to 4, but its "
        f"inputs contain {shown}; "
    )
    code, _, text = check(tmp_path / "train.h5", tmp_path / "config.toml")
    assert code == 65
    assert expected in text
    for most in (dbp.data.identity.CHECKED_AT_START_BYTES, 100):
        monkeypatch.setattr(dbp.data.identity, "CHECKED_AT_START_BYTES", most)
        assert main(["train", f"{tmp_path}/config.toml", "--out", f"{tmp_path}/run"]) == 65
        assert expected in capsys.readouterr().err
        assert (tmp_path / "run").exists() == (most == 100)


def test_inputs_of_a_layer_that_takes_whole_numbers_are_not_standardized(tmp_path, check):
    (tmp_path / "config.toml").write_text(SEQUENCES.replace("[data]", "") + 'data.standardize = "inputs"\n')
    write(tmp_path / "a.h5", np.ones((60, 4), np.float32))
    code, _, text = check(tmp_path / "a.h5", tmp_path / "config.toml")
    assert code == 2
    assert "embedding_1: takes whole numbers, but data.standardize makes others of the inputs; " in text


def write_sequences(path, value):
    """Write 60 sequences in chunks, of which one contains a value."""
    lengths = np.arange(60) % 7
    words = (np.arange(lengths.sum()) % 5).astype(np.float32)
    words[lengths[:41].sum() + 2] = value
    with h5py.File(path, "w") as file:
        file.create_dataset("inputs", data=words, chunks=(16,), compression="gzip")
        file["offsets"], file["targets"] = np.cumsum([0, *lengths]), Y


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "a.h5: inputs must be finite, but those of example 41 contain nan"),
        (9, "a.h5: inputs of example 41 do not fit the model: embedding_1: takes whole numbers from 0 to 4"),
    ],
)
def test_sequences_of_unequal_length(tmp_path, check, value, message):
    layers = '{ kind = "embedding", entries = 5, units = 2 }, { kind = "global_average_pool" }, { kind = "dense"'
    (tmp_path / "config.toml").write_text(CONFIG.replace('{ kind = "dense"', layers))
    words = (tmp_path / "a.h5", tmp_path / "config.toml", "--set", "data.offsets=offsets")
    write_sequences(tmp_path / "a.h5", 4)
    code, text, _ = check(*words)
    assert code == 0
    assert "60 examples" in text
    assert "fit model and loss" in text
    write_sequences(tmp_path / "a.h5", value)
    code, _, text = check(*words)
    assert code == 65
    assert message in text

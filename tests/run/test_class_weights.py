"""Class weights of a run: counted once over the training part, the same on any number of ranks, kept in checkpoints."""

import json

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.data import ArrayDataset, ColumnMeaning
from dbp.errors import UserError
from dbp.saving.start import Start
from tests.jobs import SMALL, digest, mpirun, newest_checkpoint
from tests.saving.short_runs import run
from tests.small_data import X

RARE = (X[:, 0] > 1).astype(int) + (X[:, 0] > 1.5)
WEIGHTS = np.random.default_rng(4).random(len(X))
BALANCED = nn.CrossEntropy(class_weights="balanced")


def test_balanced_weights_are_those_of_the_training_part(tmp_path):
    run(tmp_path, loss=BALANCED, data=Data((X, RARE), validation=1 / 3))
    stored = json.loads(newest_checkpoint(tmp_path).progress["class_weights"])
    whole = np.bincount(RARE, minlength=3)
    assert np.allclose(40 / (3 * np.array(stored)), np.round(40 / (3 * np.array(stored))))
    assert (40 / (3 * np.array(stored)) <= whole + 1e-9).all()


def test_they_are_what_a_table_and_example_weights_would_do():
    """One step with all examples: factors are example weights whose sum is the number of examples."""
    counts = np.bincount(RARE, minlength=3)
    factors = len(X) / (3 * counts)
    settings = {"epochs": 3, "batch_size": "all", "data": Data((X, RARE))}
    automatic = run(loss=BALANCED, **settings)
    table = run(loss=nn.CrossEntropy(class_weights=dict(enumerate(factors.tolist()))), **settings)
    assert digest_arrays(automatic.weights) == digest_arrays(table.weights)
    weighted = run(**settings | {"data": Data((X, RARE, factors[RARE].astype(np.float32)))})
    for name, array in weighted.weights.items():
        np.testing.assert_allclose(automatic.weights[name], array, rtol=1e-4, atol=1e-6)


def test_example_weights_count_as_so_many_examples(tmp_path):
    run(tmp_path, loss=BALANCED, data=Data((X, RARE, WEIGHTS)))
    totals = np.bincount(RARE, WEIGHTS, minlength=3)
    stored = json.loads(newest_checkpoint(tmp_path).progress["class_weights"])
    np.testing.assert_allclose(stored, totals.sum() / (3 * totals), rtol=1e-6)  # of float32


def test_a_table_names_classes_as_the_data_does(tmp_path):
    meaning = {"targets": ColumnMeaning("integers", classes=("cat", "dog", "eel"))}
    data = ArrayDataset(X, RARE, name="animals")
    data.meaning = meaning
    run(tmp_path, loss=nn.CrossEntropy(class_weights={"eel": 3.0}), data=Data(data), epochs=1)
    assert json.loads(newest_checkpoint(tmp_path).progress["class_weights"]) == [1.0, 1.0, 3.0]
    with pytest.raises(UserError, match="unknown class of class_weights 'eal'; did you mean 'eel'"):
        run(loss=nn.CrossEntropy(class_weights={"eal": 3.0}), data=Data(data))


def test_balanced_weights_that_replace_a_table_are_counted_anew(tmp_path):
    run(tmp_path, loss=nn.CrossEntropy(class_weights={0: 9.0}), data=Data((X, RARE)), epochs=1)
    run(tmp_path, loss=BALANCED, data=Data((X, RARE)), epochs=2, start=Start(accept=("loss",)))
    stored = json.loads(newest_checkpoint(tmp_path).progress["class_weights"])
    np.testing.assert_allclose(stored, len(X) / (3 * np.bincount(RARE, minlength=3)))


def test_later_starts_take_them_from_the_checkpoint(tmp_path, monkeypatch):
    settings = {"loss": BALANCED, "data": Data((X, RARE))}
    whole = run(**settings)
    run(tmp_path, epochs=2, **settings)
    monkeypatch.setattr("dbp.reading.class_counts.class_totals", None)
    assert digest_arrays(run(tmp_path, **settings).weights) == digest_arrays(whole.weights)


CONFIG = SMALL.replace('loss = "cross_entropy"', 'loss = { kind = "cross_entropy", class_weights = "balanced" }')


@pytest.mark.slow
def test_the_same_bits_on_ranks_and_the_same_cost_in_eval(tmp_path, run_command):
    (tmp_path / "config.toml").write_text(CONFIG)
    assert run_command("train", tmp_path / "config.toml", "--out", tmp_path / "1")[0] == 0
    outcome = mpirun(3, "-m", "dbp", "train", tmp_path / "config.toml", "--out", tmp_path / "3")
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "1") == digest(tmp_path / "3")
    line = next(line for line in outcome.out.splitlines() if line.startswith("test: "))
    assert run_command("eval", tmp_path / "3", "dbp:digits-test")[1].strip() == line.removeprefix("test: ")

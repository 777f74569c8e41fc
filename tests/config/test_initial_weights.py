"""The setting of initial weights: a source, or a table that names a part of one."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dbp.config.initial_weights import InitialWeights
from dbp.errors import UserError

ARRAYS = {"dense_1/weight": np.ones((2, 3))}


def test_a_source_is_a_file_arrays_or_a_trained_model():
    assert InitialWeights.of("runs/a") == InitialWeights("runs/a")
    assert InitialWeights.of({"from": Path("runs/a")}).path == "runs/a"
    assert InitialWeights.of(ARRAYS).source is ARRAYS
    model = SimpleNamespace(weights=ARRAYS, meaning={})
    given = InitialWeights.of({"from": model, "only": ["dense_*"], "rename": {"a": "b"}})
    assert (given.source, given.only, given.rename, given.path) == (model, ("dense_*",), {"a": "b"}, None)


def test_a_config_holds_the_table_with_a_digest_of_arrays():
    assert InitialWeights.of("runs/a").as_value("custom") == "runs/a"
    table = {"from": "runs/a", "only": ["dense_*"], "rename": {"a": "b"}}
    assert InitialWeights.of(table).as_value("custom") == table
    first, second = (InitialWeights.of({"x": np.full(2, n)}).as_value("custom") for n in (1, 2))
    assert set(first) == {"custom"}
    assert first != second


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "weights must be a checkpoint, the folder of a run, a table of weights or a TrainedModel, but is 3"),
        ({"only": ["a"]}, r"weights\.from is missing; name a checkpoint or the folder of a run, as in weights = \{"),
        ({"from": 3}, r"weights\.from must be a checkpoint or the folder of a run, but is 3"),
        ("x.npz", r"weights must be .* but is 'x\.npz'; make a checkpoint of it: dbp import x\.npz CONFIG weights\.h5"),
        ({"from": "y.safetensors"}, r"weights\.from must be .* 'y\.safetensors'; make a checkpoint of it"),
        ({"from": "a", "onyl": []}, r"unknown key 'weights\.onyl'; did you mean 'weights\.only'\?"),
        ({"from": "a", "only": "dense_*"}, r"weights\.only must be a list of patterns, as in weights = .*'dense_\*'"),
        ({"from": "a", "only": []}, r"weights\.only is empty; leave it out to take all weights"),
        ({"from": "a", "rename": ["b"]}, r"weights\.rename must be a table of new names by old ones, but is \['b'\]"),
    ],
)
def test_what_names_no_weights_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        InitialWeights.of(given)

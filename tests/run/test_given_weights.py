"""Initial weights from other models: all, or a part under other names."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.saving.start import Start
from tests.saving.short_runs import run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a trained model, and its folder."""
    folder = tmp_path_factory.mktemp("source") / "run"
    return run(folder, epochs=1), str(folder)


def changed(found, expected):
    """Return the names of the weights that are not the expected ones."""
    return [name for name, array in found.items() if not np.array_equal(array, expected.get(name))]


def test_a_part_is_taken_and_the_rest_drawn_from_the_seed_which_one_line_says(source, capsys):
    trained, folder = source
    drawn = run(epochs=0).weights
    for given in (folder, trained, trained.weights):
        found = run(epochs=0, weights={"from": given, "only": ["dense_1/*"]}).weights
        assert changed(found, drawn) == ["dense_1/weight", "dense_1/bias"]
        assert changed(found, trained.weights) == ["dense_2/weight", "dense_2/bias"]
    run(epochs=0, weights={"from": folder, "only": ["dense_1/*"]}, start=Start())
    note = f"note: drawn from the seed, not from weights {folder}: dense_2/weight, dense_2/bias\n"
    assert note in capsys.readouterr().out


def test_a_trained_model_is_a_source_of_all_weights(source):
    assert changed(run(epochs=0, weights=source[0]).weights, source[0].weights) == []


def test_parts_get_other_names(source):
    trained, folder = source
    table = {"from": folder, "only": ["dense_1/*", "dense_3/*"], "rename": {"dense_2": "dense_3"}}
    found = run(model=[nn.Dense(8), nn.Dense(8), nn.Dense(3)], epochs=0, weights=table).weights
    for name, old in (("dense_1/weight", "dense_1/weight"), ("dense_3/bias", "dense_2/bias")):
        np.testing.assert_array_equal(found[name], trained.weights[old])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": ["conv*"]}, r"weights\.only: the pattern 'conv\*' matches no parameter"),
        ({"rename": {"dense_9": "x"}}, r"weights\.rename dense_9=x fits none of the weights"),
        (
            {"rename": {"dense_1": "a"}, "only": ["dense_1/*"]},
            r"'dense_1/weight' is missing, which weights\.only names",
        ),
        (
            {"rename": {"dense_1": "dense_2", "dense_2": "dense_1"}, "only": ["dense_1/*"]},
            r"'dense_1/weight' has shape \(8, 3\), but the model needs \(5, 8\); leave it out of weights\.only",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(source, changes, message):
    with pytest.raises(UserError, match=message):
        run(epochs=0, weights={"from": source[1], **changes})

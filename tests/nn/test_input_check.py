"""The check of the numbers that layers refuse in their inputs: without parameters, in all branches before the first."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.nn import check_inputs, initial_parameters

GOOD = np.array([[0, 1], [2, 3]], np.float32)


def two_tables(scope, x):
    """Return the entries of two tables, of which the second has more."""
    one = nn.Embedding(3, 2)(scope.inside("one"), x[:, 0])
    return one + nn.Embedding(4, 2)(scope.inside("two"), x[:, 1])


def table_after_a_parameter(scope, x):
    """Return the entries of a table, with a factor that is asked for before it."""
    return scope.parameter("factor", (2,)) * nn.Embedding(4, 2)(scope.inside("table"), x[:, 0])


def checks_of(model):
    return initial_parameters(model, GOOD, 0).input_checks


@pytest.mark.parametrize(
    ("model", "checks", "asked", "refused"),
    [
        (nn.Sequential(nn.Dense(2)), (), 0, []),
        (
            nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Dense(2)),
            ("embedding_1",),
            1,
            [(0, 4), (1, -1), (1, 0.5)],
        ),
        (
            nn.Sequential(nn.Recompute((nn.Reshape((2, 1)), nn.Embedding(4, 2)))),
            ("recompute_1/embedding_1",),
            1,
            [(1, 9)],
        ),
        (two_tables, ("one", "two"), 2, [(0, 3), (1, 4)]),
        (table_after_a_parameter, ("table",), 0, []),
    ],
)
def test_layers_are_asked_without_parameters(model, checks, asked, refused):
    assert checks_of(model) == checks
    if not checks:
        return
    assert check_inputs(model, GOOD, None, len(checks)) == asked
    for column, value in refused:
        inputs = GOOD.copy()
        inputs[1, column] = value
        with pytest.raises(UserError, match=r"takes whole numbers from 0 to "):
            check_inputs(model, inputs, None, len(checks))


def test_masked_positions_are_not_asked():
    model, inputs = nn.Sequential(nn.Embedding(4, 2), nn.Dense(1)), np.array([[1, 9]], np.float32)
    assert check_inputs(model, inputs, np.array([[True, False]]), 1) == 1
    with pytest.raises(UserError, match=r"^embedding_1: .* contain 9"):
        check_inputs(model, inputs, np.array([[True, True]]), 1)

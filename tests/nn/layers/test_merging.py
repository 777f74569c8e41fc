"""Layers that make one value of several: values, masks along every axis, and shapes that do not fit."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from tests.nn.models import inputs

A, B = inputs(2, 3, 4), inputs(2, 3, 4, seed=1)
MASK = np.array([[1, 1, 0], [1, 0, 0]], bool)
OTHER = np.array([[1, 1, 1], [0, 1, 0]], bool)


def merged(layer, x, masks=None):
    scope = nn.Scope(nn.call_with({}), mask=masks or (None,) * len(x))
    return layer(scope, x), scope.mask_after(layer)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Add(), A + B),
        (nn.Subtract(), A - B),
        (nn.Multiply(), A * B),
        (nn.Average(), (A + B) / 2),
        (nn.Concatenate(), np.concatenate([A, B], axis=2)),
        (nn.Concatenate(axis=1), np.concatenate([A, B], axis=1)),
    ],
)
def test_values(layer, expected):
    np.testing.assert_array_equal(merged(layer, (A, B))[0], expected)


def test_a_value_per_channel_counts_at_every_position():
    per_channel = inputs(2, 1, 4)
    np.testing.assert_array_equal(merged(nn.Multiply(), (A, per_channel))[0], A * per_channel)


@pytest.mark.parametrize(
    ("layer", "masks", "expected"),
    [
        (nn.Add(), (MASK, OTHER), MASK & OTHER),
        (nn.Multiply(), (None, OTHER), OTHER),
        (nn.Concatenate(), (MASK, OTHER), MASK & OTHER),
        (nn.Concatenate(axis=1), (MASK, OTHER), np.concatenate([MASK, OTHER], axis=1)),
        (nn.Concatenate(axis=1), (MASK, None), np.concatenate([MASK, np.ones((2, 3), bool)], axis=1)),
    ],
)
def test_masks(layer, masks, expected):
    np.testing.assert_array_equal(merged(layer, (A, B), masks)[1], expected)


def test_a_mask_of_fewer_axes_holds_for_all_positions_along_the_others():
    images, rows = inputs(2, 3, 2, 1), np.ones((2, 3, 2), bool)
    rows[0, 0, 1] = False
    after = merged(nn.Add(), (images, images), (rows, MASK))[1]
    np.testing.assert_array_equal(after, rows & MASK[:, :, None])


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.Add(), (A, A[:, :2]), r"takes values of one shape, .*, but gets \(3, 4\) and \(2, 4\) per example"),
        (nn.Add(), (A, A[:, 0]), "takes values of one shape"),
        (nn.Concatenate(), (A, A[:, :2]), "takes values that differ in length along axis 2 alone"),
        (nn.Concatenate(), (A, A[:, 0]), "takes values with axis -1 and as many axes each"),
        (nn.Concatenate(axis=3), (A, A), "takes values with axis 3"),
        (nn.Concatenate(axis=-3), (A, A), "takes values with axis -3"),
        (nn.Multiply(), (A,), "takes several values"),
        (nn.Multiply(), A, "takes several values"),
    ],
)
def test_shapes_that_do_not_fit(layer, x, message):
    with pytest.raises(UserError, match=f"^{message}"):
        merged(layer, x, (None, None))


def test_the_axis_of_the_examples_stays():
    with pytest.raises(UserError, match="axis must be a whole number other than 0"):
        nn.Concatenate(axis=0)

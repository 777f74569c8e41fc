"""Placeholders in the rows of data sets."""

import numpy as np
import pytest

from dbp.data import Examples, without_placeholders

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 4)).astype(np.float32)

NAN = float("nan")


@pytest.mark.parametrize(
    ("targets", "weights", "expected", "left_out"),
    [
        ([-100, 1, 255], [0, 1, 0.5], [0, 1, 255], [0]),
        ([[NAN, 1], [2, NAN], [NAN, NAN]], [[0, 1], [1, 0], [0, 0]], [[0, 1], [2, 0], [0, 0]], [2]),
        ([[1e30, 1], [2, 3], [4, 5]], [0, 1, -1], [[0, 0], [2, 3], [4, 5]], [0]),
        ([NAN, 1, 2], [[0], [1], [1]], [0, 1, 2], [0]),
        ([[[7], [8]], [[9], [7]], [[8], [9]]], [[0, 1], [1, 1], [1, 1]], [[[0], [8]], [[9], [7]], [[8], [9]]], []),
    ],
)
def test_placeholders_of_weight_0_are_replaced(targets, weights, expected, left_out):
    inputs = np.array([[NAN, 1], [2, 1e30], [3, NAN]])
    given = Examples(inputs, np.array(targets), np.array(weights))
    copies = [column.copy() for column in given]
    found = without_placeholders(given)
    np.testing.assert_array_equal(found.targets, expected)
    kept = inputs.copy()
    kept[left_out] = 0
    np.testing.assert_array_equal(found.inputs, kept)
    for before, after in zip(copies, given, strict=True):
        np.testing.assert_array_equal(before, after)


def test_without_weights_of_0_nothing_is_copied():
    given = Examples(X, X[:, 0], np.ones(23))
    assert without_placeholders(given) is given

"""Metrics of the user's own: two functions."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.metrics import Metric
from tests.metrics.values import NUMBERS, WEIGHTS, values

OUTPUTS = NUMBERS + 0.3


def near(outputs, targets, weights):
    hits = np.abs(outputs - targets) < np.array([0.1, 0.5, 1.0])
    return [*(weights[:, None] * hits).sum(axis=0), weights.sum()]


def shares(sums):
    return {"first": sums[0] / sums[-1], "all": sums[:-1].mean() / sums[-1]}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_sums_and_values_by_name(weights):
    metric = Metric("near", near, shares, larger_is_better=True)
    found, _ = values([metric, "mae"], nn.MeanSquaredError(), OUTPUTS, NUMBERS, weights)
    assert list(found) == ["near_first", "near_all", "mae", "mae_0", "mae_1", "mae_2"]
    assert (found["near_first"], found["near_all"]) == pytest.approx((0, 2 / 3))


@pytest.mark.parametrize(
    ("sums", "value", "message"),
    [
        (lambda o, t, w: 1.0, sum, r"metric 'mine': sums must return a list of numbers, but returned 1\.0"),
        (lambda o, t, w: ["a"], sum, "sums must return a list of numbers"),
        (lambda o, t, w: np.ones(len(o)), sum, "sums must return as many numbers for any examples, but returned 1 and"),
        (near, lambda sums: "high", "value must return a number, or several by name, but returned 'high'"),
        (near, lambda sums: {"a b": 1.0}, "must be an identifier, .* but is 'mine_a b'"),
        (near, lambda sums: {str(int(sums[0])): 1.0}, "value must return the same names for any sums"),
        (near, None, "value must be a function, but is None"),
    ],
)
def test_mistakes_are_named(sums, value, message):
    with pytest.raises(UserError, match=message):
        values(Metric("mine", sums, value, True), nn.MeanSquaredError(), OUTPUTS - 0.25, NUMBERS)


@pytest.mark.parametrize("name", ["two words", "", "cost", "validation_mine", 3])
def test_names_that_no_column_can_have_are_refused(name):
    with pytest.raises(UserError, match="the name of a metric must"):
        Metric(name, near, shares, True)

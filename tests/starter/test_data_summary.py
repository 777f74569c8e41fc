"""What a data set holds, by which a first config is chosen."""

import numpy as np
import pytest

from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.starter import summary_of

X = np.random.default_rng(0).standard_normal((12, 3))


@pytest.mark.parametrize(
    ("targets", "known", "outputs", "classes", "rarest"),
    [
        ([0, 1, 2] * 4, None, 3, ("0", "1", "2"), 4),
        ([0.0, 1] * 6, None, 2, ("0", "1"), 6),
        ([[0], [1]] * 6, None, 2, ("0", "1"), 6),
        ([0, 1] * 6, ("ant", "bee"), 2, ("ant", "bee"), 6),
        ([0, 1] * 6, ("ant", "bee", "cat"), 3, ("ant", "bee", "cat"), 0),
        ([0, -100] * 6, ("ant", "bee"), 2, ("ant", "bee"), 0),
        (range(12), tuple(map(str, range(2000))), 2000, tuple(map(str, range(2000))), 0),
        ([0, 1] * 6, (), 1, (), 12),  # a table has said that they are numbers
        ([0, 5] * 6, None, 1, (), 12),
        ([0] * 12, None, 1, (), 12),
        ([-1, 1] * 6, None, 1, (), 12),
        ([0.5, 1] * 6, None, 1, (), 12),
        (np.eye(4)[[0, 1, 2, 3] * 3], None, 4, ("0", "1", "2", "3"), 3),
        (X[:, :2], None, 2, (), 12),
    ],
)
def test_targets(targets, known, outputs, classes, rarest):
    found = summary_of(ArrayDataset(X, targets, classes=known))
    assert (found.outputs, found.classes, found.rarest) == (outputs, classes, rarest)


def test_words():
    assert str(summary_of(ArrayDataset(X, [0, 1] * 6))) == "12 examples of 3 inputs, and 2 classes (0, 1) to predict"
    images = ArrayDataset(np.zeros((12, 16, 20, 3), np.uint8), X[:, 0], scale=1 / 255)
    found = summary_of(images)
    assert (str(found), found.is_image) == ("12 examples of shape 16x20x3, and 1 number to predict", True)
    assert found.are_pixels


def test_whole_numbers_may_be_meant_as_classes():
    for targets, known, values in (
        ([3, 1] * 6, None, (1, 3)),
        ([0, 1] * 6, (), (0, 1)),
        (range(12), (), (*range(12),)),
    ):
        assert summary_of(ArrayDataset(X, targets, classes=known)).few_values == values
    for targets in ([0.5, 1] * 6, [0, 1] * 6, X[:, :2]):
        assert summary_of(ArrayDataset(X, targets)).few_values == ()


@pytest.mark.parametrize(
    ("targets", "message"),
    [(None, "has no targets, so that there is"), (np.zeros((12, 3, 4)), "no first config; write")],
)
def test_targets_that_do_not_fit(targets, message):
    with pytest.raises(UserError, match=message):
        summary_of(ArrayDataset(X, targets))

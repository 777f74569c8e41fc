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
    images = ArrayDataset(np.zeros((12, 8, 8, 3), np.uint8), X[:, 0], scale=1 / 255)
    found = summary_of(images)
    assert (str(found), found.is_image) == ("12 examples of shape 8x8x3, and 1 number to predict", True)
    assert found.are_pixels


@pytest.mark.parametrize(
    ("targets", "message"),
    [(None, "has no targets, so that there is"), (np.zeros((12, 3, 4)), "no first config; write")],
)
def test_targets_that_do_not_fit(targets, message):
    with pytest.raises(UserError, match=message):
        summary_of(ArrayDataset(X, targets))

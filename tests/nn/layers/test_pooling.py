"""Pooling against plain loops."""

import numpy as np
import pytest

from dbp import nn
from tests.nn.models import inputs, run


def pooled(x, size, stride, zeros, function):
    """Apply the function to the pixels of the image under every window."""
    starts = [range(-b, n + a - k + 1, s) for n, k, s, (b, a) in zip(x.shape[1:3], size, stride, zeros, strict=True)]
    rows = [
        [function(x[:, max(0, i) : i + size[0], max(0, j) : j + size[1]], axis=(1, 2)) for j in starts[1]]
        for i in starts[0]
    ]
    return np.transpose(rows, (2, 0, 1, 3))


POOLS = [
    ({"size": 2}, (2, 2), (2, 2), ((0, 0), (0, 0))),
    ({"size": (2, 3)}, (2, 3), (2, 3), ((0, 0), (0, 0))),
    ({"size": 3, "stride": 1, "padding": "same"}, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ({"size": 3, "stride": (2, 1), "padding": 1}, (3, 3), (2, 1), ((1, 1), (1, 1))),
    ({"size": 2, "padding": "same"}, (2, 2), (2, 2), ((0, 1), (0, 0))),
    ({"size": 4, "stride": 3, "padding": "same"}, (4, 4), (3, 3), ((1, 2), (0, 1))),
]
FUNCTIONS = [(nn.MaxPool1d, nn.MaxPool2d, np.max), (nn.AveragePool1d, nn.AveragePool2d, np.mean)]


@pytest.mark.parametrize(("settings", "size", "stride", "zeros"), POOLS, ids=str)
@pytest.mark.parametrize(("_one", "two", "function"), FUNCTIONS)
def test_pooling_of_images(_one, two, function, settings, size, stride, zeros):
    x = inputs(2, 7, 6, 3) - 4  # so that zeros would be the largest
    np.testing.assert_allclose(run(two(**settings), x)[1], pooled(x, size, stride, zeros, function))


@pytest.mark.parametrize(
    ("settings", "size", "stride", "zeros"),
    [
        ({"size": 2}, 2, 2, (0, 0)),
        ({"size": 3, "stride": 1, "padding": "same"}, 3, 1, (1, 1)),
        ({"size": 4, "stride": 3, "padding": 2}, 4, 3, (2, 2)),
        ({"size": 2, "padding": "same"}, 2, 2, (0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize(("one", "_two", "function"), FUNCTIONS)
def test_pooling_of_sequences(one, _two, function, settings, size, stride, zeros):
    x = inputs(2, 7, 3) - 4
    expected = pooled(x[:, None], (1, size), (1, stride), ((0, 0), zeros), function)[:, 0]
    np.testing.assert_allclose(run(one(**settings), x)[1], expected)


@pytest.mark.parametrize(("one", "two", "function"), FUNCTIONS)
def test_pooling_of_volumes_is_pooling_of_planes_and_along_the_depth(one, two, function):
    """Compare the mean too, where all windows hold as many positions."""
    x, three = inputs(2, 6, 5, 4, 3), {nn.MaxPool2d: nn.MaxPool3d, nn.AveragePool2d: nn.AveragePool3d}[two]
    planes = run(two((3, 2), (1, 2), dilation=(2, 1)), x.reshape(12, 5, 4, 3))[1].reshape(2, 6, -1, 3)
    columns = np.moveaxis(planes, 1, 2).reshape(-1, 6, 3)
    expected = np.moveaxis(run(one(2, 3), columns)[1].reshape(2, -1, 2, 3), 2, 1)
    got = run(three((2, 3, 2), (3, 1, 2), dilation=(1, 2, 1)), x)[1]
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-12)
    everything = run(three((6, 5, 4)), x)[1]
    np.testing.assert_allclose(everything[:, 0, 0, 0], function(x, axis=(1, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (2, 3, 2, 3)])
def test_global_pooling(shape):
    x = inputs(2, *shape)
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(run(nn.GlobalAveragePool(), x)[1], x.mean(axes))
    np.testing.assert_array_equal(run(nn.GlobalMaxPool(), x)[1], x.max(axes))

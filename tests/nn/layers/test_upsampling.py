"""Upsampling against plain repetition and interpolation along one axis after the other."""

import numpy as np
import pytest

from dbp import nn
from tests.nn.models import inputs, run


def interpolated(x, axis, factor):
    """Interpolate between the middles of the positions along an axis, and repeat the outermost ones beyond."""
    length = x.shape[axis]
    middles = np.arange(length) + 0.5
    wanted = (np.arange(length * factor) + 0.5) / factor
    return np.apply_along_axis(lambda row: np.interp(wanted, middles, row), axis, x)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, (2, 3, 1)], ids=str)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_upsampling_axis_by_axis(axes, factor):
    x = inputs(2, *(4, 1, 3)[:axes], 2)
    factor = factor if isinstance(factor, int) else factor[:axes]
    method = ("linear", "bilinear", "trilinear")[axes - 1]
    nearest = smooth = x
    for axis in range(axes):
        times = factor if isinstance(factor, int) else factor[axis]
        nearest, smooth = np.repeat(nearest, times, axis + 1), interpolated(smooth, axis + 1, times)
    np.testing.assert_array_equal(run(nn.Upsample(factor), x)[1], nearest)
    np.testing.assert_allclose(run(nn.Upsample(factor, method), x)[1], smooth, rtol=1e-12)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_a_masked_part_has_no_influence_on_the_valid_one(method):
    x, mask = inputs(1, 5, 4, 2), np.zeros((1, 5, 4), bool)
    mask[:, :3, :2] = True
    layer = nn.Upsample((2, 3), method)
    scope = nn.use({}, mask=mask)
    y = layer(scope, np.where(mask[..., None], x, np.nan))
    np.testing.assert_allclose(y[:, :6, :6], layer(nn.use({}), x[:, :3, :2]), rtol=1e-12)
    after = scope.mask_after(layer)
    assert after[:, :6, :6].all()
    assert after.sum() == 36
    assert not y[~after].any()

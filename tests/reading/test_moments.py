"""Mean and deviation of the training data, with their weights."""

import numpy as np
import pytest

from dbp.data import ArrayDataset, Ragged
from dbp.data.check import BLOCK_BYTES
from dbp.errors import PassStoppedError, UserError
from dbp.parallel import OneProcess
from dbp.reading.moments import as_numbers, moments_of
from dbp.reading.order import Order
from dbp.reading.subset import PositionRange, Subset

RNG = np.random.default_rng(0)
ROWS = 3 * BLOCK_BYTES // (8 * 5) // 2  # some blocks


def found(data, columns=("inputs", "targets")):
    return moments_of(OneProcess(), data, columns, lambda: False, print)


def check(moments, values, weights):
    """Compare moments with those of all numbers with a weight of their own."""
    values, weights = (array.reshape(-1, array.shape[-1]).astype(np.longdouble) for array in (values, weights))
    mean = np.average(values, axis=0, weights=weights[:, 0])
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights[:, 0]))
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.deviation, deviation, rtol=1e-8)


def test_moments_are_those_of_all_rows_however_far_they_are_from_zero():
    x = RNG.standard_normal((ROWS, 4)) * [1, 1e-3, 1e5, 1] + [0, 1e6, 0, -3]
    moments = found(ArrayDataset(x, x[:, 0]))
    check(moments["inputs"], x, np.ones(x.shape))
    check(moments["targets"], x[:, :1], np.ones((ROWS, 1)))
    assert isinstance(as_numbers(moments["targets"].mean), float)
    assert len(as_numbers(moments["inputs"].deviation)) == 4


def test_wide_rows_have_the_moments_of_narrow_ones():
    x = RNG.standard_normal((50, 99)) + 3
    for weights in (None, RNG.integers(0, 2, 50)):
        wide, narrow = (found(ArrayDataset(one, one, weights), ["inputs"])["inputs"] for one in (x, x[:, :9]))
        check(wide, x, np.broadcast_to(1 if weights is None else weights[:, None], x.shape))
        np.testing.assert_allclose(narrow.deviation, wide.deviation[:9], rtol=1e-14)
        np.testing.assert_array_equal(narrow.least, wide.least[:9])


def test_scale_and_shift_come_first():
    x = RNG.integers(0, 255, (50, 3)).astype(np.uint8)
    moments = found(ArrayDataset(x, x[:, 0], scale=(0.5, 1, 2), shift=-7), ["inputs"])
    check(moments["inputs"], x * [0.5, 1, 2] - 7, np.ones(x.shape))


def test_rows_count_with_their_weights_and_those_of_weight_0_may_be_anything():
    x, y = RNG.standard_normal((60, 7, 3)), RNG.standard_normal((60, 2))
    weights = RNG.integers(0, 4, 60) / 2
    spoiled = np.where(weights[:, None, None] == 0, np.nan, x)
    moments = found(ArrayDataset(spoiled, np.where(weights[:, None] == 0, np.inf, y), weights))
    check(moments["inputs"], x, np.broadcast_to(weights[:, None, None], x.shape))
    check(moments["targets"], y, np.broadcast_to(weights[:, None], y.shape))


def test_positions_that_are_filled_in_do_not_count():
    lengths = RNG.integers(1, 30, 40)
    x, y = ([RNG.standard_normal((length, *shape)) for length in lengths] for shape in ((2,), ()))
    moments = found(ArrayDataset(Ragged.of(x), Ragged.of(y)))
    for column, rows in (("inputs", x), ("targets", y)):
        values = np.concatenate(rows).reshape(lengths.sum(), -1)
        check(moments[column], values, np.ones(values.shape))
    single = found(ArrayDataset(Ragged.of(y), np.arange(40)), ["inputs"])
    check(single["inputs"], np.concatenate(y)[:, None], np.ones((lengths.sum(), 1)))
    mask = np.arange(30) < lengths[:, None]
    masked = found(ArrayDataset(np.where(mask, 1.5, np.nan)[..., None], np.arange(40), mask=mask), ["inputs"])
    assert (masked["inputs"].mean.tolist(), masked["inputs"].weight.tolist()) == ([1.5], [lengths.sum()])


def test_positions_count_with_the_weights_of_their_targets():
    x, y, weights = RNG.standard_normal((40, 6, 2)), RNG.standard_normal((40, 6)), RNG.integers(0, 2, (40, 6))
    moments = found(ArrayDataset(x, y, weights))
    check(moments["inputs"], x, np.broadcast_to(weights[..., None], x.shape))
    for column in range(6):
        counts = weights[:, column] > 0
        assert moments["targets"].mean[column] == pytest.approx(y[counts, column].mean(), rel=1e-12)


def test_only_the_training_part_counts():
    x = RNG.standard_normal((ROWS, 5))
    rows = PositionRange(Order(ROWS, 3, "validation split"), range(ROWS // 3))
    moments = found(Subset(ArrayDataset(x, x), rows))
    chosen = rows(np.arange(ROWS // 3))
    check(moments["inputs"], x[chosen], np.ones((len(chosen), 5)))


def test_gray_images_have_one_mean_and_deviation_for_all_pixels():
    x = RNG.integers(0, 255, (30, 5, 4)).astype(np.uint8)
    moments = found(ArrayDataset(x, np.arange(30), scale=1 / 255))["inputs"]
    assert as_numbers(moments.mean) == pytest.approx(x.mean() / 255)
    assert as_numbers(moments.deviation) == pytest.approx(x.std() / 255)
    for other in (x[..., None].repeat(3, axis=-1), x.astype(float)):  # with channels, or positions with features
        assert len(as_numbers(found(ArrayDataset(other, np.arange(30)))["inputs"].mean)) == other.shape[-1]


def test_constant_columns_are_found_whatever_rounding_makes_of_their_deviation():
    x = np.stack([np.full(99, 0.1, np.float32), np.arange(99), np.full(99, 1e30)], axis=1)
    moments = found(ArrayDataset(x, x[:, 0]))["inputs"]
    assert moments.is_constant.tolist() == [True, False, True]
    assert moments.deviation[[0, 2]].tolist() == [1, 1]
    assert moments.mean[0] == pytest.approx(0.1)


def test_a_pass_obeys_a_signal():
    with pytest.raises(PassStoppedError):
        moments_of(OneProcess(), ArrayDataset(np.ones((9, 2)), np.ones(9)), ["inputs"], lambda: True, print)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "example 5 has inputs that are"), (1e300, "squares that are not")]
)
def test_numbers_that_are_not_finite_are_named(value, message):
    x = np.ones((9, 2))
    x[5, 1] = value
    with pytest.raises(UserError, match=f"^the arrays: .*{message}"), np.errstate(all="ignore"):
        found(ArrayDataset(x, x[:, 0]))

"""The map from stored numbers to those that a model sees."""

import numpy as np
import pytest

from dbp.data import Scaling

RNG = np.random.default_rng(0)
VECTOR = (2.0, 0.5, -3.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(
    ("scale", "shift", "mean", "deviation"),
    [
        (None, None, None, None),
        (0.25, None, None, None),
        (VECTOR, None, None, None),
        (None, 7.0, None, None),
        (0.5, VECTOR, None, None),
        (0.5, None, 4.0, 2.0),
        (VECTOR, 1.0, VECTOR, (4.0, 0.5, 1.0)),
    ],
)
def test_numbers_are_scaled_shifted_and_standardized(stored, dtype, scale, shift, mean, deviation):
    values = RNG.integers(0, 99, (5, 4, 3)).astype(stored)
    scaling = Scaling.of(scale, shift, mean, deviation)
    expected = values.astype(np.float64) * np.asarray(1 if scale is None else scale)
    expected = expected + np.asarray(0 if shift is None else shift) - np.asarray(0 if mean is None else mean)
    expected = expected / np.asarray(1 if deviation is None else deviation)
    found = scaling.apply(values, np.dtype(dtype))
    assert found.dtype == dtype
    assert not np.shares_memory(found, values)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    back = scaling.undo(found)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-4)
    assert scaling.is_identity == (scale is None and shift is None and mean is None)


def test_a_factor_alone_gives_the_bits_of_a_product():
    values = RNG.standard_normal((50, 3)).astype(np.float32)
    np.testing.assert_array_equal(Scaling.of(1 / 255).apply(values, np.dtype(np.float32)), values * np.float32(1 / 255))


def test_numbers_that_need_no_change_are_copied_only_if_that_is_asked_for_or_they_are_not_in_order():
    values = RNG.standard_normal((6, 4)).astype(np.float32)
    unaligned = np.frombuffer(b"1" + values.tobytes(), np.uint8)[1:].view(np.float32).reshape(values.shape)
    for stored, is_given in ((values, True), (values.T, False), (values[:, :3], False), (unaligned, False)):
        found = Scaling().apply(stored, np.dtype(np.float32), copy=False)
        assert (found is stored) == is_given
        np.testing.assert_array_equal(found, stored)
    for scaling, dtype in ((Scaling.of(2.0), np.float32), (Scaling.of(shift=1.0), np.float32), (Scaling(), np.float64)):
        assert not np.shares_memory(scaling.apply(values, np.dtype(dtype), copy=False), values)


def test_large_numbers_keep_the_digits_of_their_differences():
    times = 1.7e9 + np.arange(5)  # float32 would hold them to 128 seconds
    found = Scaling.of(mean=1.7e9, deviation=1.0).apply(times, np.dtype(np.float32))
    np.testing.assert_array_equal(found, np.arange(5))

"""Batch normalization in float32 beside float64, over shapes, strides in memory and sizes of pieces."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.blocks import channels

SHAPES = [(0, 3), (1, 1), (13, 1), (7, 3000), (5, 4, 3, 6), (4, 33, 31, 8)]
NARROW = np.finfo(np.float32).eps


def given(shape, offset=0.0):
    """Return inputs, scale, shift and a cotangent in float32; channels differ in size."""
    rng = np.random.default_rng(len(shape))
    x = offset + rng.standard_normal(shape) * (1 + np.arange(shape[-1]) % 5)
    scale, shift = rng.standard_normal((2, shape[-1]))
    return [a.astype(np.float32) for a in (x, scale, shift, rng.standard_normal(shape))]


def both(x, scale, shift, g, **options):
    """Return the output and the cotangents of x, scale and shift."""
    leaves = [ad.Tensor(array) for array in (x, scale, shift)]
    moments = options.pop("moments", None) or ad.channel_moments(x, options.get("weights"))
    y = ad.batch_normalize_block(*leaves, moments=moments, epsilon=1e-5, **options)
    return [y.value, *ad.pullback(y, g, leaves)]


def assert_near(found, expected, errors):
    """Check float32 results by the largest error, relative to the largest number."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max(initial=0) <= errors * NARROW * np.abs(other).max(initial=1)


@pytest.mark.parametrize("offset", [0.0, 1.5, 30.0])
@pytest.mark.parametrize("relu_after", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_are_near_those_in_float64(shape, relu_after, offset):
    arrays = given(shape, offset)
    exact = both(*(a.astype(np.float64) for a in arrays))
    arrays[3][np.abs(exact[0]) < 1e-4] = 0  # where rounding may decide for ReLU
    exact = both(*(a.astype(np.float64) for a in arrays), relu_after=relu_after)
    assert_near(both(*arrays, relu_after=relu_after), exact, 20)


@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_digits_are_kept_where_the_mean_is_far_from_zero(offset):
    x = given((64, 16, 16, 8), offset)[0]
    found = ad.channel_moments(x)
    exact = ad.channel_moments(x.astype(np.float64))
    np.testing.assert_allclose(found[0], exact[0], rtol=2 * NARROW)
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-5)
    np.testing.assert_allclose(exact[1], x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-10)


def test_moments_with_weights_are_those_of_copies():
    x, counts = given((6, 5, 3))[0], np.arange(30).reshape(6, 5) % 4
    found = ad.channel_moments(x, counts.astype(np.float32))
    expected = ad.channel_moments(np.repeat(x.reshape(-1, 3), counts.reshape(-1), axis=0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("long", "piece"), [(1, 1), (16, 16), (16, 80), (5000, 1 << 20)])
def test_pieces_of_any_size(monkeypatch, long, piece):
    x, scale, shift, g = given((4, 9, 5, 8))
    counts = (np.arange(180).reshape(4, 9, 5) % 3).astype(np.float32)
    expected = both(x, scale, shift, g, weights=counts, relu_after=True)
    monkeypatch.setattr(channels, "LONG", long)
    monkeypatch.setattr(channels, "LONG_PIECE", piece)
    channels.rows_side_by_side.cache_clear()
    try:
        assert_near(both(x, scale, shift, g, weights=counts, relu_after=True), expected, 30)
    finally:
        channels.rows_side_by_side.cache_clear()


def test_arrays_that_are_views():
    x, scale, shift, g = given((4, 6, 5, 8))
    views = np.asfortranarray(x), scale, shift, np.broadcast_to(g[:, :1, :1], g.shape)
    copies = [np.ascontiguousarray(a) for a in views]
    for one, other in zip(both(*views), both(*copies), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 2)], ids=str)
def test_fixed_moments_are_constants(wanted):
    x, scale, shift, g = given((6, 5, 4))
    moments, inputs = (shift - 1, scale**2), [x, scale, shift]
    leaves = [ad.Tensor(a) if i in wanted else a for i, a in enumerate(inputs)]
    y = ad.batch_normalize_block(*leaves, moments=moments, epsilon=0.1, fixed=True)
    normal = (x - moments[0]) / np.sqrt(moments[1] + 0.1)
    np.testing.assert_allclose(y.value, normal * scale + shift, rtol=1e-4, atol=1e-5)
    expected = [g * scale / np.sqrt(moments[1] + 0.1), (g * normal).sum((0, 1)), g.sum((0, 1))]
    found = ad.pullback(y, g, [leaves[i] for i in wanted])
    for one, number in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, expected[number], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_those_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    arrays = [a.astype(dtype) for a in given((4, 9, 7, 6), 3.0)]
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays[:3]]
    moved = leaves[0].movedim(-1, 1)
    y = torch.nn.functional.batch_norm(moved, None, None, *leaves[1:], training=True, eps=1e-5).relu().movedim(1, -1)
    y.backward(torch.tensor(arrays[3]))
    expected = [t.numpy() for t in (y.detach(), *(leaf.grad for leaf in leaves))]
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    for one, other in zip(both(*arrays, relu_after=True), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())

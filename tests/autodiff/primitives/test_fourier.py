"""Fourier transforms as NumPy's, along any axes, of even and odd lengths, and what they refuse."""

import numpy as np
import pytest

import dbp.autodiff as ad

X = np.random.default_rng(0).standard_normal((4, 5, 6))


def paired(z):
    return np.stack([z.real, z.imag], axis=-1)


@pytest.mark.parametrize("axes", [-1, 1, 0, (0, 1), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transforms_are_those_of_numpy_and_undo_each_other(axes, dtype):
    x, given = X.astype(dtype), axes if isinstance(axes, tuple) else (axes,)
    y = ad.rfft(x, axes)
    np.testing.assert_array_equal(y, paired(np.fft.rfftn(x, axes=given)))
    back = ad.irfft(y, x.shape[given[-1]], axes)
    np.testing.assert_allclose(back, x, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-6)
    assert y.dtype == back.dtype == dtype


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_derivatives_of_both_orders_of_even_and_odd_lengths(length):
    x = X[:2, :3, :length]
    ad.check_derivatives(lambda x: ad.rfft(x, (0, 2)), x)
    spectrum = np.random.default_rng(1).standard_normal((3, length // 2 + 1, 2, 2))
    ad.check_derivatives(lambda y: ad.irfft(y, length, (0, 1)), spectrum)  # imaginary parts that are no real array's

    def derivative_energy(x):
        return ad.sum_(ad.square(ad.gradient(lambda x: ad.sum_(ad.sin(ad.rfft(x, 2))))(x)))

    ad.check_derivatives(ad.gradient(derivative_energy), x, tolerance=1e-5)


def test_a_spectral_derivative():
    """Differentiate sin(3 s) by s through its transform, and that by a shift of s."""
    s, k = np.arange(16) * 2 * np.pi / 16, np.arange(9)

    def slope(shift):
        y = ad.rfft(ad.sin(3 * (s + shift)))
        return ad.irfft(ad.stack([-k * y[:, 1], k * y[:, 0]], axis=-1), 16)

    np.testing.assert_allclose(slope(0.2), 3 * np.cos(3 * (s + 0.2)), atol=1e-12)
    (_, moved) = ad.jvp(slope, (0.2,), (1.0,))
    np.testing.assert_allclose(moved, -9 * np.sin(3 * (s + 0.2)), atol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ad.ShapeError, match=r"\(4, 2\): a length of 5 needs 3 frequencies along axis 0"):
        ad.irfft(np.zeros((4, 2)), 5)
    with pytest.raises(ad.ShapeError, match="and pairs along the last"):
        ad.irfft(np.zeros((3, 3)), 5)
    with pytest.raises(IndexError, match="axis 3 is out of bounds"):
        ad.rfft(X, 3)
    with pytest.raises(TypeError, match=r"np.fft.rfft records no derivative; use dbp.autodiff.rfft"):
        np.fft.rfft(ad.Tensor(X))

"""Layers of frequencies beside NumPy's Fourier transforms, on other lengths too, and what they refuse."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from tests.nn.models import inputs, run


def matrices_of(w):
    real, imaginary = np.split(w, 2, axis=-1)
    return real + 1j * imaginary


def convolved_1d(x, w, modes):
    spectrum = np.fft.rfft(x, axis=1)
    y = np.zeros((*spectrum.shape[:2], w.shape[-1] // 2), complex)
    y[:, :modes] = np.einsum("bki,kio->bko", spectrum[:, :modes], matrices_of(w))
    return np.fft.irfft(y, x.shape[1], axis=1)


def convolved_2d(x, w, down, across):
    spectrum, m = np.fft.rfft2(x, axes=(1, 2)), matrices_of(w)
    y = np.zeros((*spectrum.shape[:3], m.shape[-1]), complex)
    for rows, matrices in ((slice(down), m[:down]), (slice(-down, None), m[down:])):
        y[:, rows, :across] = np.einsum("bhwi,hwio->bhwo", spectrum[:, rows, :across], matrices)
    return np.fft.irfft2(y, x.shape[1:3], axes=(1, 2))


@pytest.mark.parametrize(("length", "modes"), [(8, 5), (8, 3), (7, 4), (2, 2), (1, 1)])
def test_spectral_conv1d_is_a_product_of_spectra(length, modes):
    x = inputs(3, length, 2)
    parameters, y = run(nn.SpectralConv1d(4, modes), x)
    np.testing.assert_allclose(y, convolved_1d(x, parameters["weight"], modes), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("shape", "modes"), [((8, 6), (4, 4)), ((7, 5), (3, 3)), ((9, 8), 2), ((2, 1), 1)])
def test_spectral_conv2d_is_a_product_of_spectra(shape, modes):
    x = inputs(3, *shape, 2)
    parameters, y = run(nn.SpectralConv2d(4, modes), x)
    down, across = (modes, modes) if isinstance(modes, int) else modes
    np.testing.assert_allclose(y, convolved_2d(x, parameters["weight"], down, across), rtol=1e-10, atol=1e-12)


def test_a_smooth_field_gives_the_same_on_a_finer_grid():
    def field(length):
        s = 2 * np.pi * np.arange(length) / length
        return np.stack([np.sin(s), np.cos(2 * s) + 0.3], axis=-1)[None]

    layer = nn.SpectralConv1d(3, 4)
    parameters, y = run(layer, field(8))
    np.testing.assert_allclose(layer(nn.use(parameters), field(32))[:, ::4], y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.SpectralConv1d(2, 6), (9, 1), "modes must be at most 5 for inputs of length 9, but is 6"),
        (nn.SpectralConv2d(2, 3), (5, 9, 1), "modes down must be at most 2 for inputs of height 5, but is 3"),
        (nn.SpectralConv2d(2, (2, 6)), (5, 9, 1), "modes across must be at most 5 for inputs of width 9, but is 6"),
        (nn.SpectralConv1d(2, 1), (9,), r"takes \(length, channels\) per example"),
        (
            nn.FourierFeatures([[1.0, 2.0]]),
            (3,),
            "a number per coordinate, which are 3 in its inputs of shape .*have 2",
        ),
        (nn.FourierFeatures(2), (), "takes a row of numbers per example"),
    ],
)
def test_what_does_not_fit_the_inputs_is_refused_before_the_first_step(layer, shape, message):
    with pytest.raises(UserError, match=message):
        nn.initial_parameters(nn.Sequential(layer), np.zeros((2, *shape)), 0)


@pytest.mark.parametrize("frequencies", [[], [1.0, 2.0], [[1.0], [1.0, 2.0]], [[np.nan]], "many", [["a"]]])
def test_frequencies_that_are_no_rows_of_numbers_are_refused(frequencies):
    with pytest.raises(UserError, match="frequencies must be a number of them, or rows of equally many numbers"):
        nn.FourierFeatures(frequencies)


def test_a_deviation_of_given_frequencies_is_refused():
    with pytest.raises(UserError, match=r"deviation is for drawn frequencies, but is 2\.0 with given ones; drop it"):
        nn.FourierFeatures([[1.0]], deviation=2.0)


def test_masked_positions_are_refused():
    x = inputs(2, 4, 1)
    with pytest.raises(UserError, match="spectral_conv1d_1: takes no inputs with masked positions"):
        nn.initial_parameters(nn.Sequential(nn.SpectralConv1d(1, 1)), x, 0, mask=np.arange(4) < [[2], [4]])


def test_fourier_features_are_waves_of_constant_frequencies():
    x = inputs(3, 5, 2)
    initial = nn.initial_parameters(nn.Sequential(nn.FourierFeatures(4, 3.0), nn.Dense(1)), x, seed=7, dtype="float64")
    assert initial.constants == {"fourier_features_1/frequencies"}
    drawn = initial.parameters["fourier_features_1/frequencies"]
    again = nn.initial_parameters(
        nn.Sequential(nn.FourierFeatures(4), nn.Dense(1)), x, seed=7, dtype="float64"
    ).parameters
    np.testing.assert_array_equal(again["fourier_features_1/frequencies"], drawn)
    angles = 2 * np.pi * 3.0 * x @ drawn
    y = nn.FourierFeatures(4, 3.0)(nn.use({"frequencies": drawn}), x)
    np.testing.assert_allclose(y, np.concatenate([np.cos(angles), np.sin(angles)], axis=-1), rtol=1e-9, atol=1e-12)


def test_a_model_of_constants_alone_has_nothing_to_train():
    with pytest.raises(UserError, match="nothing to train"):
        nn.initial_parameters(nn.FourierFeatures(4), inputs(3, 2), 0)

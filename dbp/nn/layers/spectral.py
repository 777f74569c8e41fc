"""Layers of frequencies: random Fourier features, and convolutions by the lowest frequencies of a field.

The convolutions are the core of Fourier neural operators. Complex numbers are pairs of real ones. As few frequencies
are kept, they are computed by products with cosines and sines, in a fraction of the time of a fast Fourier transform,
which computes all of them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, concatenate, cos, matmul, reshape, sin, take, transpose
from dbp.checks import check_positive, is_integer
from dbp.errors import UserError
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.layers.window_settings import Sizes, check_sizes
from dbp.nn.scope import Scope
from dbp.text import brief
from dbp.types import Array

KEPT_TABLES = 32  # matrices of cosines and sines that are kept, for as many lengths and numbers of modes


@dataclass(frozen=True)
class FourierFeatures:
    """Fourier features of coordinates x: cos(2 pi x B) and sin(2 pi x B) (Tancik et al. 2020, section 4).

    With them a network learns what changes fast with its inputs, such as an image as a function of the position. Random
    frequencies B (coordinates, frequencies) are drawn from the seed of the run, kept with its weights, and never
    trained.

    Inputs (examples, ..., coordinates), outputs (examples, ..., 2 frequencies): cosines, then sines.

    Args:
        frequencies: how many are drawn, or the frequencies themselves: for each a row with a number per coordinate, in
            waves per unit.
        deviation: standard deviation of those that are drawn, in waves per unit.
    """

    kind: ClassVar[str] = "fourier_features"
    keeps_positions: ClassVar[bool] = True
    frequencies: int | tuple[tuple[float, ...], ...]
    deviation: float = 1.0

    def __post_init__(self) -> None:
        check_positive(deviation=self.deviation)
        if is_integer(self.frequencies):
            check_counts(self, "frequencies")
            return
        object.__setattr__(self, "frequencies", _rows(self.frequencies))
        if self.deviation != 1:
            raise UserError(f"deviation is for drawn frequencies, but is {self.deviation} with given ones; drop it")

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the cosines and sines (examples, ..., 2 frequencies)."""
        if np.ndim(x) < 2:
            raise UserError(f"takes a row of numbers per example, but its inputs have shape {np.shape(x)[1:]}")
        scope.mask_of(x)  # raises if the last axis is one of positions, which the layer would mix
        angles = matmul(x, self._waves_per_unit(scope, x) * (2 * np.pi))
        return concatenate(cos(angles), sin(angles), axis=-1)

    def _waves_per_unit(self, scope: Scope, x: Value) -> Array:
        """Return the frequencies as a matrix (coordinates, frequencies); UserError if they do not fit the inputs."""
        coordinates = np.shape(x)[-1]
        if isinstance(self.frequencies, int):
            drawn = scope.constant("frequencies", (coordinates, self.frequencies), "normal")
            return drawn * float(self.deviation)
        if len(self.frequencies[0]) != coordinates:
            raise UserError(
                f"frequencies must have a number per coordinate, which are {coordinates} in its inputs of shape "
                f"{np.shape(x)[1:]}, but have {len(self.frequencies[0])}"
            )
        given: Array = np.array(self.frequencies, np.result_type(array_of(x).dtype, np.float32))
        return given.T


def _rows(frequencies: Any) -> tuple[tuple[float, ...], ...]:
    """Return frequencies as rows of numbers; UserError unless they are equally many finite ones in each."""
    try:
        matrix = np.array(frequencies, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise UserError(
            "frequencies must be a number of them, or rows of equally many numbers, such as [[1.0], [2.0]], but is "
            f"{brief(frequencies)}"
        )
    return tuple(tuple(row) for row in matrix.tolist())


@dataclass(frozen=True)
class SpectralConv1d:
    """Convolution of sequences by their lowest frequencies (Li et al. 2021, section 4).

    The Fourier transform along the length is multiplied, for each frequency, by a complex matrix of its own, and
    transformed back; higher frequencies become 0. A layer that was trained on one length takes others too.

    Inputs (examples, length, channels); outputs (examples, length, filters). `weight` (modes, channels, 2 filters)
    holds for each frequency the real parts of its matrix, and after them the imaginary parts.

    Args:
        filters: channels of the outputs.
        modes: number of frequencies, from 0 on, that are kept; at most length // 2 + 1.
        initializer: name of the distribution of real and imaginary parts.
    """

    kind: ClassVar[str] = "spectral_conv1d"
    filters: int
    modes: int
    initializer: str = "glorot_uniform"

    def __post_init__(self) -> None:
        check_counts(self, "filters", "modes")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs (examples, length, filters)."""
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        _refuse_mask(scope)
        n, length, channels = np.shape(x)
        _check_modes("modes", self.modes, "length", length, most=length // 2 + 1)
        w = scope.parameter("weight", (self.modes, channels, 2 * self.filters), self.initializer)
        there, back = along_last_axis(length, self.modes, array_of(w).dtype.name)
        spectrum = reshape(matmul(there, x), shape=(n, 2, self.modes, channels))
        y = reshape(_filtered(spectrum, w), shape=(n, 2 * self.modes, self.filters))
        return scope.neurons(matmul(back, y))


@dataclass(frozen=True)
class SpectralConv2d:
    """Convolution of images by their lowest frequencies, as SpectralConv1d for sequences (Li et al. 2021, section 4).

    Inputs (examples, height, width, channels); outputs (examples, height, width, filters). `weight`
    (2 down, across, channels, 2 filters) holds for each pair of frequencies the real parts of its matrix, and after
    them the imaginary parts; along the first axis are the frequencies 0 to down - 1, then -down to -1.

    Args:
        filters: channels of the outputs.
        modes: numbers of frequencies that are kept, (down, across), or one number for both. Along the height as many
            negative ones are kept too, so down is at most height // 2; across is at most width // 2 + 1.
        initializer: name of the distribution of real and imaginary parts.
    """

    kind: ClassVar[str] = "spectral_conv2d"
    filters: int
    modes: Sizes
    initializer: str = "glorot_uniform"

    def __post_init__(self) -> None:
        check_counts(self, "filters")
        check_sizes(self, "modes")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs (examples, height, width, filters)."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front")
        _refuse_mask(scope)
        n, height, width, channels = np.shape(x)
        down, across = (self.modes, self.modes) if isinstance(self.modes, int) else self.modes
        _check_modes("modes down", down, "height", height, most=height // 2)
        _check_modes("modes across", across, "width", width, most=width // 2 + 1)
        w = scope.parameter("weight", (2 * down, across, channels, 2 * self.filters), self.initializer)
        w, dtype = reshape(w, shape=(2 * down * across, channels, 2 * self.filters)), array_of(w).dtype.name
        (there, back), (down_there, down_back) = along_last_axis(width, across, dtype), along_axis(height, down, dtype)
        spectrum = _parts_first(matmul(there, x), height, across * channels)
        spectrum = reshape(matmul(down_there, spectrum), shape=(n, 2, 2 * down * across, channels))
        y = reshape(_filtered(spectrum, w), shape=(n, 4 * down, across * self.filters))
        y = reshape(matmul(down_back, y), shape=(n, 2, height, across * self.filters))
        y = reshape(transpose(y, axes=(0, 2, 1, 3)), shape=(n, height, 2 * across, self.filters))
        return scope.neurons(matmul(back, y))


def _parts_first(x: Value, height: int, numbers: int) -> Value:
    """Return pairs (examples, height, 2 numbers ...) as (examples, 2 height, numbers), with all real parts first."""
    n = len(x)
    parts = transpose(reshape(x, shape=(n, height, 2, numbers)), axes=(0, 2, 1, 3))
    return reshape(parts, shape=(n, 2 * height, numbers))


def _filtered(spectrum: Value, w: Value) -> Value:
    """Return the product of a spectrum and a complex matrix for each of its frequencies.

    Args:
        spectrum: (examples, 2, frequencies, channels), real parts and imaginary parts.
        w: (frequencies, channels, 2 filters), real parts and imaginary parts.

    Returns:
        (examples, 2, frequencies, filters).
    """
    n, _, modes, channels = np.shape(spectrum)
    rows = reshape(transpose(spectrum, axes=(2, 1, 0, 3)), shape=(modes, 2 * n, channels))
    # the products of both parts of the spectrum and both parts of the matrices
    products = reshape(matmul(rows, w), shape=(modes, 2, n, 2, np.shape(w)[-1] // 2))
    products = transpose(products, axes=(2, 1, 3, 0, 4))
    by_parts = [[take(products, index=(slice(None), i, j)) for j in (0, 1)] for i in (0, 1)]
    real, imaginary = by_parts[0][0] - by_parts[1][1], by_parts[0][1] + by_parts[1][0]
    return concatenate(*(reshape(part, shape=(n, 1, *np.shape(part)[1:])) for part in (real, imaginary)), axis=1)


@functools.lru_cache(KEPT_TABLES)
def along_last_axis(length: int, modes: int, dtype: str) -> tuple[Array, Array]:
    """Return the matrices of the transform of real numbers to their lowest frequencies, and of its inverse.

    Args:
        length: of the numbers.
        modes: of frequencies from 0 on.
        dtype: of the matrices.

    Returns:
        (2 modes, length), with the real parts of all frequencies first, and (length, 2 modes).
    """
    cosines, sines = _waves(np.arange(modes), length)
    counted = np.full((modes, 1), 2.0)  # frequencies stand for their negatives too
    alone = [0, length // 2] if length % 2 == 0 and modes > length // 2 else [0]
    counted[alone] = 1.0
    sines[alone] = 0.0
    there = np.concatenate([cosines, -sines])
    back = np.concatenate([counted * cosines, -counted * sines]).T / length
    return _constant(there, dtype), _constant(back, dtype)


@functools.lru_cache(KEPT_TABLES)
def along_axis(length: int, modes: int, dtype: str) -> tuple[Array, Array]:
    """Return the matrices of the transform of complex numbers to their lowest frequencies, and of its inverse.

    Args:
        length: of the numbers.
        modes: of frequencies from 0 on, and as many below 0.
        dtype: of the matrices.

    Returns:
        (4 modes, 2 length) and (2 length, 4 modes), on both sides with all real parts first; the frequencies are
        0 to modes - 1, then -modes to -1.
    """
    cosines, sines = _waves(np.concatenate([np.arange(modes), np.arange(-modes, 0)]), length)
    there = np.block([[cosines, sines], [-sines, cosines]])
    return _constant(there, dtype), _constant(there.T / length, dtype)


def _waves(frequencies: Array, length: int) -> tuple[Array, Array]:
    """Return cosines and sines (frequencies, length), each computed once, from the exact remainder of its angle."""
    angles = 2 * np.pi * np.arange(length) / length
    positions = np.outer(frequencies, np.arange(length)) % length
    return np.cos(angles)[positions], np.sin(angles)[positions]


def _constant(matrix: Array, dtype: str) -> Array:
    """Return a matrix in this type, contiguous and read-only, as all calls share it."""
    made = np.array(matrix, dtype, order="C")
    made.flags.writeable = False
    return made


def _refuse_mask(scope: Scope) -> None:
    if scope.mask is not None:
        raise UserError(
            "takes no inputs with masked positions, as a frequency is a sum over all positions; cut the "
            "examples to one length"
        )


def _check_modes(name: str, modes: int, axis: str, length: int, most: int) -> None:
    if modes > most:
        raise UserError(f"{name} must be at most {most} for inputs of {axis} {length}, but is {modes}")

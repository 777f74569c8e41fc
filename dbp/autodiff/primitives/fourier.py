"""Fourier transforms of real arrays, whose complex numbers are pairs (real, imaginary) along a new last axis.

Tensors are real, so that the rules of all other primitives hold for these pairs. A transform over several axes is real
along the last of them, as in NumPy's rfftn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dbp.autodiff.tensor import Primitive, Value, array_of
from dbp.types import Array


def _transformed(x: Any, axes: tuple[int, ...]) -> Array:
    y = np.ascontiguousarray(np.fft.rfftn(x, axes=axes))
    return y.view(y.real.dtype).reshape(*y.shape, 2)


def _restored(y: Any, length: int, axes: tuple[int, ...]) -> Array:
    lengths = [y.shape[axis] for axis in axes[:-1]]
    if y.shape[-1] != 2 or y.shape[axes[-1]] != length // 2 + 1:
        raise ValueError(
            f"a length of {length} needs {length // 2 + 1} frequencies along axis {axes[-1]}, and pairs along the last"
        )
    z = np.ascontiguousarray(y)
    z = z.view(np.result_type(z, np.complex64))[..., 0]
    restored: Array = np.fft.irfftn(z, s=(*lengths, length), axes=axes)
    return restored


def _weighted(y: Value, length: int, axes: tuple[int, ...], inner: float, factor: float) -> Value:
    """Multiply frequencies by a factor, and by `inner` those that stand for their negatives too."""
    weights = np.full(length // 2 + 1, inner * factor, array_of(y).dtype)
    weights[0] = factor
    if length % 2 == 0:
        weights[-1] = factor
    shape = [1] * np.ndim(y)
    shape[axes[-1]] = len(weights)
    return y * weights.reshape(shape)


def _count(x: Value, axes: tuple[int, ...]) -> int:
    """Return the product of the lengths of real x along the axes."""
    return math.prod(np.shape(x)[axis] for axis in axes)


def _rfft_transposed(g: Value, x: Value, axes: tuple[int, ...]) -> Value:
    length = np.shape(x)[axes[-1]]
    return _irfft(_weighted(g, length, axes, 0.5, _count(x, axes)), length=length, axes=axes)


def _irfft_transposed(g: Value, length: int, axes: tuple[int, ...]) -> Value:
    return _weighted(_rfft(g, axes=axes), length, axes, 2.0, 1 / _count(g, axes))


_rfft: Primitive = Primitive(
    "rfft",
    _transformed,
    reverse=[lambda g, y, x, axes: _rfft_transposed(g, x, axes)],
    forward=[lambda t, y, x, axes: _rfft(t, axes=axes)],
)
_irfft: Primitive = Primitive(
    "irfft",
    _restored,
    reverse=[lambda g, y, x, length, axes: _irfft_transposed(g, length, axes)],
    forward=[lambda t, y, x, length, axes: _irfft(t, length=length, axes=axes)],
)


def _positive(axes: int | Sequence[int], count: int) -> tuple[int, ...]:
    given = [axes] if isinstance(axes, (int, np.integer)) else axes
    return tuple(np.lib.array_utils.normalize_axis_index(axis, count) for axis in given)


def rfft(x: Value, axes: int | Sequence[int] = -1) -> Value:
    """Return the Fourier transform of a real array, with the real and imaginary parts along a new last axis.

    Args:
        x: (..., length, ...), real.
        axes: one axis of x or several; the last of them keeps length // 2 + 1 frequencies, from 0 on, the others all.

    Raises:
        ShapeError: an axis has no elements.
    """
    return _rfft(x, axes=_positive(axes, np.ndim(x)))


def irfft(y: Value, length: int, axes: int | Sequence[int] = -1) -> Value:
    """Return the real array of a Fourier transform, the inverse of rfft.

    Args:
        y: (..., length // 2 + 1, ..., 2), the real and imaginary parts along the last axis.
        length: of the result along the last of the axes.
        axes: the axes of the result that are restored, as for rfft.

    Raises:
        ShapeError: y has another number of frequencies than the length needs, or no pairs.
    """
    return _irfft(y, length=length, axes=_positive(axes, np.ndim(y) - 1))

"""Fourier features and spectral convolutions in ONNX, whose graphs compute cosines and sines for any length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.types import Array


def fourier_features(scope: OnnxScope, layer: nn.FourierFeatures, x: Value) -> Value:
    """Add the cosines and sines of products with constant frequencies."""
    given = isinstance(layer.frequencies, tuple)
    waves = np.array(layer.frequencies).T if given else scope.weight("frequencies") * layer.deviation
    angles = scope.node("MatMul", scope.plain(x).name, scope.constant("frequencies", 2 * np.pi * waves))
    both = scope.node("Concat", scope.node("Cos", angles), scope.node("Sin", angles), axis=-1)
    return Value.plain(both, (*x.shape[:-1], 2 * waves.shape[1]))


def spectral_conv1d(scope: OnnxScope, layer: nn.SpectralConv1d, x: Value) -> Value:
    """Add a convolution of sequences by their lowest frequencies."""
    x = scope.plain(x)
    waves = _Waves(scope.inside("length"), x, 1, np.arange(layer.modes))
    w = scope.weight("weight")
    spectrum = _shaped(scope, "spectrum", scope.node("MatMul", waves.of_real(), x.name), 0, 2, *w.shape[:2])
    y = _shaped(scope, "parts", _filtered(scope, spectrum, w), 0, 2 * layer.modes, layer.filters)
    return replace(x, name=scope.node("MatMul", waves.to_real(), y), shape=(x.shape[0], layer.filters))


def spectral_conv2d(scope: OnnxScope, layer: nn.SpectralConv2d, x: Value) -> Value:
    """Add a convolution of images by their lowest frequencies."""
    x, w = scope.plain(x), scope.weight("weight")
    rows, across, channels, both = w.shape
    down = np.arange(rows // 2)
    by_width = _Waves(scope.inside("width"), x, 2, np.arange(across))
    by_height = _Waves(scope.inside("height"), x, 1, np.concatenate([down, down - rows // 2]))
    y = scope.node("MatMul", by_width.of_real(), x.name)
    y = _shaped(scope, "apart", y, 0, 0, 2, across * channels)
    y = scope.node("Transpose", y, perm=[0, 2, 1, 3])
    y = scope.node("MatMul", by_height.of_complex(), _shaped(scope, "parts_first", y, 0, -1, across * channels))
    y = _filtered(scope, _shaped(scope, "spectrum", y, 0, 2, rows * across, channels), w.reshape(-1, channels, both))
    y = _shaped(scope, "parts", y, 0, 2 * rows, across * layer.filters)
    y = _shaped(scope, "apart_again", scope.node("MatMul", by_height.to_complex(), y), 0, 2, -1, across * layer.filters)
    y = scope.node("Transpose", y, perm=[0, 2, 1, 3])
    y = _shaped(scope, "side_by_side", y, 0, 0, 2 * across, layer.filters)
    return replace(x, name=scope.node("MatMul", by_width.to_real(), y), shape=(*x.shape[:2], layer.filters))


def _shaped(scope: OnnxScope, name: str, x: str, *shape: int) -> str:
    return scope.node("Reshape", x, scope.constant(name, np.array(shape)))


def _filtered(scope: OnnxScope, spectrum: str, w: Array) -> str:
    """Multiply (examples, 2, frequencies, channels) by a complex matrix for each frequency, in form of a real one."""
    modes, channels, both = w.shape
    real, imaginary = np.split(w, 2, axis=-1)
    matrices = np.concatenate([w, np.concatenate([-imaginary, real], axis=-1)], axis=1)
    rows = scope.node("Transpose", spectrum, perm=[2, 0, 1, 3])
    rows = _shaped(scope, "rows", rows, modes, -1, 2 * channels)
    y = scope.node("MatMul", rows, scope.constant("weight", matrices))
    return scope.node("Transpose", _shaped(scope, "by_parts", y, modes, -1, 2, both // 2), perm=[1, 2, 0, 3])


class _Waves:
    """Cosines and sines (frequencies, length), computed in the graph for whatever length an axis has.

    Args:
        scope: of the names of the nodes.
        x: the value that has the axis.
        axis: its number in the graph.
        frequencies: in waves per length.
    """

    def __init__(self, scope: OnnxScope, x: Value, axis: int, frequencies: Array):
        self._scope = scope
        self._zero, one = scope.constant("zero", np.array(0)), scope.constant("one", np.array(1))
        circle = scope.constant("circle", np.array(2 * np.pi))
        self._length = scope.node("Squeeze", scope.node("Shape", x.name, start=axis, end=axis + 1))
        self._float_length = scope.node("CastLike", self._length, circle)
        self._column = scope.constant("frequencies", frequencies[:, None])
        positions = scope.node("Range", self._zero, self._length, one)
        part = scope.node("Mod", scope.node("Mul", self._column, positions), self._length)  # of a circle, in positions
        angles = scope.node("Mul", scope.node("CastLike", part, circle), scope.node("Div", circle, self._float_length))
        self._cosines, self._sines = scope.node("Cos", angles), scope.node("Sin", angles)

    def of_real(self) -> str:
        """Add the matrix (2 frequencies, length) of the transform of real numbers, all real parts first."""
        return self._scope.node("Concat", self._cosines, self._scope.node("Neg", self._sines), axis=0)

    def to_real(self) -> str:
        """Add the matrix (length, 2 frequencies) of its inverse, where a frequency stands for its negative too."""
        scope = self._scope
        doubled = scope.node("Mul", self._column, scope.constant("two", np.array(2)))
        is_own_negative = scope.node("Equal", scope.node("Mod", doubled, self._length), self._zero)
        once, twice = scope.constant("once", np.array(1.0)), scope.constant("twice", np.array(2.0))
        never, minus_twice = scope.constant("never", np.array(0.0)), scope.constant("minus_twice", np.array(-2.0))
        cosines = scope.node("Mul", self._cosines, scope.node("Where", is_own_negative, once, twice))
        sines = scope.node("Mul", self._sines, scope.node("Where", is_own_negative, never, minus_twice))
        return self._inverse(scope.node("Concat", cosines, sines, axis=0))

    def of_complex(self) -> str:
        """Add the matrix (2 frequencies, 2 length) of the transform of complex numbers, all real parts first."""
        upper = self._scope.node("Concat", self._cosines, self._sines, axis=1)
        lower = self._scope.node("Concat", self._scope.node("Neg", self._sines), self._cosines, axis=1)
        return self._scope.node("Concat", upper, lower, axis=0)

    def to_complex(self) -> str:
        """Add the matrix (2 length, 2 frequencies) of its inverse."""
        return self._inverse(self.of_complex())

    def _inverse(self, matrix: str) -> str:
        return self._scope.node("Div", self._scope.node("Transpose", matrix, perm=[1, 0]), self._float_length)

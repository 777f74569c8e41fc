"""Layers that make one value of several: concatenation, and arithmetic element by element."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Value, add_relu_block, concatenate
from dbp.checks import is_integer
from dbp.errors import UserError
from dbp.nn.layers.dense import is_relu
from dbp.nn.layers.layer import Layer
from dbp.nn.scope import Scope
from dbp.types import Array

Masks = Sequence[Array | None]  # which positions of each value hold data; None if all do


@dataclass(frozen=True)
class Concatenate:
    """Values joined along an axis, in the order in which `from` names them.

    Args:
        axis: along which they are joined, counted as in NumPy, where axis 0 is that of the examples.
    """

    kind: ClassVar[str] = "concatenate"
    takes_several: ClassVar[bool] = True
    axis: int = -1

    def __post_init__(self) -> None:
        if not is_integer(self.axis) or self.axis == 0:
            raise UserError(f"axis must be a whole number other than 0, the axis of the examples, but is {self.axis!r}")

    def __call__(self, scope: Scope, x: Sequence[Value]) -> Value:
        """Return one value for several (examples, ...), which differ in length along the axis alone.

        Raises:
            UserError: they have no such axis, or differ along another one.
        """
        shapes = _shapes(x)
        axes = len(shapes[0])
        if any(len(shape) != axes for shape in shapes) or not -axes < self.axis < axes or self.axis % axes == 0:
            raise UserError(f"takes values with axis {self.axis} and as many axes each, but gets {_text(shapes)}")
        axis = self.axis % axes
        if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
            raise UserError(
                f"takes values that differ in length along axis {axis} alone, but gets {_text(shapes)}; give "
                "them the same lengths otherwise, by size, stride or padding of the layers before"
            )
        scope.pass_mask(_joined(scope.masks, shapes, axis))
        return concatenate(*x, axis=axis)


def _joined(masks: Masks, shapes: Sequence[tuple[int, ...]], axis: int) -> Array | None:
    """Return which positions of a concatenation hold data."""
    positions = max((mask.ndim for mask in masks if mask is not None), default=0)
    if axis >= positions:
        return _common(masks, shapes)
    spread = [_spread(mask, shape[:positions]) for mask, shape in zip(masks, shapes, strict=True)]
    return np.concatenate(spread, axis=axis)


class _Elementwise:
    """A function of the elements of several values at the same position.

    An axis of length 1 is repeated for values that are longer there, so that a value per channel (1, 1, channels) can
    be added to images, or multiply them.
    """

    takes_several: ClassVar[bool] = True

    def __call__(self, scope: Scope, x: Sequence[Value]) -> Value:
        """Return the function of values (examples, ...) of one shape, or of length 1 where they differ.

        Raises:
            UserError: their shapes differ otherwise.
        """
        self._pass_common_mask(scope, x)
        return self._of(x)

    def _pass_common_mask(self, scope: Scope, x: Sequence[Value]) -> None:
        """Pass on which positions hold data in all values; UserError unless their shapes fit."""
        shapes = _shapes(x)
        lengths = [set(of_axis) - {1} for of_axis in zip(*shapes, strict=False)]
        if len({len(shape) for shape in shapes}) > 1 or any(len(found) > 1 for found in lengths):
            raise UserError(
                f"takes values of one shape, or of length 1 where they differ, but gets {_text(shapes)}; give one of "
                "them a dense layer, a convolution of size 1 or a reshape first"
            )
        scope.pass_mask(_common(scope.masks, shapes))

    def _of(self, x: Sequence[Value]) -> Value:
        raise NotImplementedError


@dataclass(frozen=True)
class Add(_Elementwise):
    """The sum of several values, element by element."""

    kind: ClassVar[str] = "add"

    def _of(self, x: Sequence[Value]) -> Value:
        return functools.reduce(operator.add, x)

    def followed_by(self, after: Layer) -> Callable[[Scope, Sequence[Value]], Value] | None:
        """Return the layer together with ReLU after it, in one pass; None for another layer."""
        return self._with_relu if is_relu(after) else None

    def _with_relu(self, scope: Scope, x: Sequence[Value]) -> Value:
        self._pass_common_mask(scope, x)
        return add_relu_block(functools.reduce(operator.add, x[:-1]), x[-1])


@dataclass(frozen=True)
class Subtract(_Elementwise):
    """The first value less all others, element by element."""

    kind: ClassVar[str] = "subtract"

    def _of(self, x: Sequence[Value]) -> Value:
        return functools.reduce(operator.sub, x)


@dataclass(frozen=True)
class Multiply(_Elementwise):
    """The product of several values, element by element."""

    kind: ClassVar[str] = "multiply"

    def _of(self, x: Sequence[Value]) -> Value:
        return functools.reduce(operator.mul, x)


@dataclass(frozen=True)
class Average(_Elementwise):
    """The mean of several values, element by element."""

    kind: ClassVar[str] = "average"

    def _of(self, x: Sequence[Value]) -> Value:
        return functools.reduce(operator.add, x) / len(x)


def _shapes(x: Any) -> list[tuple[int, ...]]:
    """Return the shapes of several values; UserError unless there are at least two."""
    if not isinstance(x, tuple) or len(x) < 2:
        raise UserError("takes several values; name them, such as from = ['dense_1', 'dense_2']")
    return [tuple(np.shape(value)) for value in x]


def _text(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(shape[1:]) for shape in shapes) + " per example"


def _common(masks: Masks, shapes: Sequence[tuple[int, ...]]) -> Array | None:
    """Return which positions hold data in all values; None if all do."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    positions = max(mask.ndim for mask in given)
    shape = tuple(max(lengths) for lengths in zip(*(shape[:positions] for shape in shapes), strict=True))
    together: Callable[[Array, Array], Array] = np.logical_and
    return functools.reduce(together, [_spread(mask, shape) for mask in given])


def _spread(mask: Array | None, shape: tuple[int, ...]) -> Array:
    """Return a mask, which may be None or have fewer axes, on positions of this shape."""
    if mask is None:
        return np.ones(shape, np.bool_)
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)

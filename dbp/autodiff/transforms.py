"""Derivatives of functions, as functions that can be differentiated again, in any combination.

Functions take arrays, or dictionaries, lists and tuples of arrays, and give one array. What comes back is
made of arrays; within a function that is itself being differentiated it is made of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.autodiff.graph import depends_on_others, pullback, pushforward
from dbp.autodiff.primitives import identity, reshape, stack
from dbp.autodiff.tensor import Tensor, Value, array_of
from dbp.autodiff.tree import change, leaves_of, like

Function = Callable[..., Any]
By = int | tuple[int, ...]


@dataclass(frozen=True)
class _Recording:
    """A function's output and the leaves it was recorded from."""

    points: Any  # a tree
    leaves: list[Tensor]
    output: Value
    outer: bool  # whether an outer derivative must be able to go through the result

    def gradient(self, cotangent: Value, record: bool = False) -> list[Value]:
        """For each leaf its cotangent, zero where the output does not depend on it."""
        record = record or self.outer or type(cotangent) is Tensor
        found: list[Value | None] = [None] * len(self.leaves)
        if type(self.output) is Tensor:
            found = pullback(self.output, cotangent, self.leaves, record)
        return [np.zeros_like(leaf.value) if g is None else g for leaf, g in zip(self.leaves, found, strict=True)]

    def plain(self, x: Value) -> Value:
        """A result as it is for an outer derivative, else its array."""
        return x if self.outer else array_of(x)


def leaf_at(point: Any) -> Tensor:
    """A tensor to differentiate by, with the numbers of a point; TypeError if they are no floats."""
    if type(point) is Tensor:
        return identity(point)  # type: ignore[no-any-return]
    array = np.asarray(point)
    if array.dtype.kind != "f":
        raise TypeError(f"a derivative by {array.dtype} does not exist; give floats, such as x.astype(float)")
    return Tensor(array)


def _record(function: Function, points: Any) -> _Recording:
    """Call a function of the points, a tuple of trees, and keep the graph."""
    leaves = [leaf_at(point) for point in leaves_of(points)]
    output = function(*like(points, leaves))
    if isinstance(output, (dict, list, tuple)):
        raise TypeError(f"a function to differentiate must give one array, but this one gave a {type(output).__name__}")
    outer = any(type(point) is Tensor for point in leaves_of(points))
    return _Recording(points, leaves, output, outer or (type(output) is Tensor and depends_on_others(output, leaves)))


def _with(arguments: Sequence[Any], by: By, chosen: Sequence[Any]) -> list[Any]:
    """The arguments with the chosen ones in their places."""
    places = dict(zip((by,) if isinstance(by, int) else by, chosen, strict=True))
    return [places.get(i, argument) for i, argument in enumerate(arguments)]


def _record_by(function: Function, arguments: Sequence[Any], by: By) -> _Recording:
    points = tuple(arguments[i] for i in ((by,) if isinstance(by, int) else by))
    return _record(lambda *chosen: function(*_with(arguments, by, chosen)), points)


def value_and_gradient(function: Function, by: By = 0) -> Function:
    """The function that gives the value of a scalar function, and its gradient.

    Args:
        function: gives one number.
        by: the argument to differentiate by, or several.

    Returns:
        A function of the same arguments; its gradient has the form of the argument (a tuple for several).
    """

    def both(*arguments: Any) -> tuple[Any, Any]:
        recording = _record_by(function, arguments, by)
        if np.size(array_of(recording.output)) != 1:
            shape = np.shape(recording.output)
            raise ValueError(f"a gradient is that of one number, but the function gave shape {shape}")
        seed = np.ones_like(array_of(recording.output))
        gradients = like(recording.points, [recording.plain(g) for g in recording.gradient(seed)])
        return recording.plain(recording.output), gradients[0] if isinstance(by, int) else gradients

    return both


def gradient(function: Function, by: By = 0) -> Function:
    """The gradient of a scalar function, as a function of the same arguments."""
    return lambda *arguments: value_and_gradient(function, by)(*arguments)[1]


def vjp(function: Function, *points: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value, and the function that takes a cotangent of it to those of the points (reverse mode)."""
    recording = _record(function, points)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        keep = recording.outer or type(cotangent) is Tensor
        found = [g if keep else array_of(g) for g in recording.gradient(cotangent)]
        return tuple(like(points, found))

    return recording.plain(recording.output), pull


def jvp(function: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value, and its change for a change of the points (forward mode)."""
    recording = _record(function, points)
    given = leaves_of(tangents)
    keep = recording.outer or any(type(t) is Tensor for t in given)
    pairs = list(zip(recording.leaves, given, strict=True))
    (tangent,) = pushforward([recording.output], pairs, record=keep)
    tangent = np.zeros_like(array_of(recording.output)) if tangent is None else tangent
    return recording.plain(recording.output), tangent if keep else array_of(tangent)


def jacobian(function: Function, by: int = 0) -> Function:
    """The derivative of every output by every number of one argument, an array; shape outputs + inputs.

    Reverse mode where there are fewer outputs than inputs, else forward mode.
    """

    def matrix(*arguments: Any) -> Any:
        recording = _record_by(function, arguments, by)
        (leaf,), output = recording.leaves, recording.output
        outputs, inputs = np.shape(output), leaf.shape
        if 0 in (*outputs, *inputs):
            return np.zeros((*outputs, *inputs), leaf.dtype)
        if np.size(array_of(output)) <= leaf.value.size:
            rows = [recording.gradient(e)[0] for e in _basis(array_of(output))]
            return recording.plain(reshape(stack(rows), shape=(*outputs, *inputs)))
        moved = [pushforward([output], [(leaf, e)], recording.outer)[0] for e in _basis(leaf.value)]
        columns = [np.zeros_like(array_of(output)) if column is None else column for column in moved]
        return recording.plain(reshape(stack(columns, axis=len(outputs)), shape=(*outputs, *inputs)))

    return matrix


def _basis(x: Any) -> list[Any]:
    """The unit vectors of the space of x."""
    flat = np.eye(x.size, dtype=x.dtype)
    return [row.reshape(x.shape) for row in flat]


def hessian(function: Function, by: int = 0) -> Function:
    """The second derivatives of a scalar function by one argument, an array; shape inputs + inputs."""
    return jacobian(gradient(function, by), by)


def hessian_product(function: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The Hessian of a scalar function times a vector, forward over reverse (Pearlmutter 1994)."""
    recording = _record(function, points)
    gradients = recording.gradient(np.ones_like(array_of(recording.output)), record=True)
    given = leaves_of(tangents)
    keep = recording.outer or any(type(t) is Tensor for t in given)
    found = pushforward(gradients, list(zip(recording.leaves, given, strict=True)), record=keep)
    products = [_or_zero(h, leaf, keep) for h, leaf in zip(found, recording.leaves, strict=True)]
    return tuple(like(points, products))


def _or_zero(x: Value | None, leaf: Tensor, keep: bool) -> Value:
    if x is None:
        return np.zeros_like(leaf.value)
    return x if keep else array_of(x)


def gauss_newton_product(
    outputs: Function, cost: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, ...]:
    """J^T H J v: J of the outputs by the points, H the Hessian of a cost by the outputs (Schraudolph 2002).

    Args:
        outputs: of the points; one array.
        cost: of the outputs; one number.
        points: where, a tuple of arguments.
        tangents: the vector v, in the form of the points.
    """
    recording = _record(outputs, points)
    pairs = list(zip(recording.leaves, leaves_of(tangents), strict=True))
    (moved,) = pushforward([recording.output], pairs, record=recording.outer)  # J v
    if moved is None:
        return tuple(change(lambda p: np.zeros_like(array_of(p)), points))
    (curved,) = hessian_product(cost, (recording.plain(recording.output),), (moved,))  # H J v
    return tuple(like(points, [recording.plain(g) for g in recording.gradient(curved)]))

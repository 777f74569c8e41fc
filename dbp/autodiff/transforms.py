"""Transformations: derivatives of functions, as functions that can be differentiated again, in any combination.

Functions take arrays, or dictionaries, lists and tuples of arrays (trees), and return one array. Derivatives consist of
arrays; within a function that is itself being differentiated they consist of tensors.

Points are copied if they are writable, so later changes to them do not matter. Results are new writable arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbp.autodiff.graph import depends_on_others, pullback, pushforward
from dbp.autodiff.primitives import identity, reshape, stack, sum_
from dbp.autodiff.pytree import matching_leaves, tree_leaves, tree_like, tree_map
from dbp.autodiff.tensor import ShapeError, Tensor, Value, array_of, complex_error
from dbp.autodiff.write_protection import ArrayChecksums, WriteProtection
from dbp.types import Array

Function = Callable[..., Any]
By = int | tuple[int, ...]


@dataclass(frozen=True)
class _Recording:
    """A recorded call of a function: its points, the leaves that stand for them, and the output."""

    points: Any  # a tree
    leaves: list[Tensor]
    output: Any  # one array; a tree for Linearization
    outer: bool  # whether the result must stay a tensor, for an outer derivative
    checksums: ArrayChecksums | None = None  # of the arrays that were used, if derivatives are computed later

    def gradient(self, cotangent: Value, record: bool = False) -> list[Value]:
        """Return the cotangent of each leaf, zero where the output does not depend on it."""
        record = record or self.outer or type(cotangent) is Tensor
        found: list[Value | None] = [None] * len(self.leaves)
        if type(self.output) is Tensor:
            found = pullback(self.output, cotangent, self.leaves, record)
        return [np.zeros_like(leaf.value) if g is None else g for leaf, g in zip(self.leaves, found, strict=True)]

    def seed(self, of_what: str) -> Value:
        """Return the cotangent 1 of a scalar output; ValueError, naming the derivative, for any other output."""
        if np.size(self.output) != 1:
            shape = np.shape(self.output)
            raise ValueError(
                f"a {of_what} needs a function that returns one number, but this one returned shape {shape}"
            )
        return np.ones_like(array_of(self.output))

    def tangent_pairs(self, tangents: Any) -> list[tuple[Tensor, Value]]:
        """Return each leaf with its tangent, from a tree in the form of the points; None in it means no tangent."""
        given = zip(self.leaves, matching_leaves(self.points, tangents, "tangents", "points"), strict=True)
        return [(leaf, _fitting(t, leaf, "tangent", "point")) for leaf, t in given if t is not None]

    def plain(self, x: Value) -> Value:
        """Return a result as it is for an outer derivative, else a new array."""
        return x if self.outer else np.array(array_of(x))


def _own(results: Sequence[Value], given: Sequence[Any] = ()) -> list[Array]:
    """Return results as writable arrays that share memory neither with each other nor with `given`."""
    arrays: list[Array] = []
    taken = {id(x) for x in given}
    for x in results:
        array = x.value if type(x) is Tensor else np.asarray(x)
        shared = array.base is not None or id(array) in taken or not array.flags.writeable
        arrays.append(array.copy() if shared else array)
        taken.add(id(array))
    return arrays


def leaf_at(point: Any) -> Tensor:
    """Return a new tensor to differentiate by, with the value of a point; TypeError unless it holds floats."""
    if type(point) is Tensor:
        return identity(point)  # type: ignore[no-any-return]
    array = np.asarray(point)
    if array.dtype.kind != "f":
        raise TypeError(f"a derivative by {array.dtype} does not exist; give floats, such as x.astype(float)")
    return Tensor(array)


def _fitting(given: Any, target: Value, name: str, of_what: str) -> Value:
    """Return a tangent or cotangent in the dtype of its point or value.

    Raises:
        ShapeError: the shapes differ.
        TypeError: it is complex.
    """
    if np.shape(given) != np.shape(target):
        raise ShapeError(f"a {name} of shape {np.shape(given)} does not fit its {of_what}, of shape {np.shape(target)}")
    if type(given) is Tensor:
        return given
    array = np.asarray(given)
    if array.dtype.kind == "c":
        raise complex_error(f"a {name}", array)
    return array.astype(array_of(target).dtype, copy=False)


def _unshared(point: Any) -> Any:
    """Return a copy of a writable array, as its owner may change it; anything else as it is."""
    return point.copy() if isinstance(point, np.ndarray) and point.flags.writeable else point


def _record(function: Function, points: Any, later: bool = False) -> _Recording:
    """Call a function with new leaves for the points, a tuple of trees, and return the recording.

    With `later` derivatives will be computed after other code has run, and the output may be a tree.
    """
    leaves = [leaf_at(_unshared(point)) for point in tree_leaves(points)]
    with WriteProtection() as protection:
        output = function(*tree_like(points, leaves))
        outputs = tree_leaves(output) if later else [output]
        checksums = protection.checksums() if later else None
        outer = any(type(point) is Tensor for point in tree_leaves(points))
        outer = outer or any(type(y) is Tensor and depends_on_others(y, leaves) for y in outputs)
        if outer:
            protection.hand_over()
    for y in outputs:
        if not isinstance(y, (Tensor, np.ndarray, np.number, float, int, complex)):
            raise TypeError(
                f"a function to differentiate must return one array, but this one returned a {type(y).__name__}"
            )
        if np.iscomplexobj(array_of(y)):
            raise complex_error("the value of a function to differentiate", array_of(y))
    return _Recording(points, leaves, output, outer, checksums)


def _argument_numbers(by: By, count: int) -> list[int]:
    """Return the numbers of the arguments to differentiate by, counted from the first; ValueError for wrong ones."""
    given = by if isinstance(by, (tuple, list)) else (by,)
    for i in given:
        if not -count <= i < count:
            raise ValueError(f"by={by} names argument {i}, but the function was given {count}, 0 to {count - 1}")
    numbers = [i % count for i in given]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"by={by} names an argument of the {count} twice")
    return numbers


def _record_by(function: Function, arguments: Sequence[Any], by: By) -> _Recording:
    numbers = _argument_numbers(by, len(arguments))

    def of_the_chosen(*chosen: Any) -> Any:
        given = dict(zip(numbers, chosen, strict=True))
        return function(*(given.get(i, argument) for i, argument in enumerate(arguments)))

    return _record(of_the_chosen, tuple(arguments[i] for i in numbers))


def value_and_gradient(function: Function, by: By = 0) -> Function:
    """Return a function that computes the value and the gradient of a scalar function.

    Args:
        function: returns one number.
        by: number of the argument to differentiate by, or a tuple of numbers.

    Returns:
        A function of the same arguments; its gradient has the form of the argument, or is a tuple for several.
    """

    def both(*arguments: Any) -> tuple[Any, Any]:
        recording = _record_by(function, arguments, by)
        found = recording.gradient(recording.seed("gradient"))
        gradients = tree_like(recording.points, found if recording.outer else _own(found))
        return recording.plain(recording.output), gradients if isinstance(by, (tuple, list)) else gradients[0]

    return both


def gradient(function: Function, by: By = 0) -> Function:
    """Return the gradient of a scalar function, as a function of the same arguments.

    Args:
        function: returns one number.
        by: number of the argument to differentiate by, or a tuple of numbers.
    """
    return lambda *arguments: value_and_gradient(function, by)(*arguments)[1]


class Linearization:
    """The linear part value + J (x - point) of a function at a point, recorded once for many products with J.

    The value may be a tree, such as a gradient, whose J is the Hessian.
    """

    def __init__(self, function: Function, point: Any):
        self._recording = _record(function, (point,), later=True)

    @property
    def value(self) -> Any:
        """The value of the function at the point."""
        return tree_map(self._recording.plain, self._recording.output)

    def push(self, tangent: Any) -> Any:
        """Return J times a tangent in the form of the point, with None for zero parts (forward mode)."""
        recording, outputs = self._checked(), tree_leaves(self._recording.output)
        pairs = recording.tangent_pairs((tangent,))
        keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
        moved = pushforward(outputs, pairs, record=keep)
        found = [np.zeros_like(array_of(y)) if t is None else t for y, t in zip(outputs, moved, strict=True)]
        return tree_like(recording.output, found if keep else _own(found, [t for _, t in pairs]))

    def pull(self, cotangent: Any) -> Any:
        """Return the transpose of J times a cotangent in the form of the value (reverse mode)."""
        recording, outputs = self._checked(), tree_leaves(self._recording.output)
        given = matching_leaves(recording.output, cotangent, "cotangents", "value")
        given = [_fitting(g, y, "cotangent", "value") for g, y in zip(given, outputs, strict=True)]
        keep = recording.outer or any(type(g) is Tensor for g in given)
        # For several outputs it is the gradient of their inner product with the cotangents.
        output = outputs[0] if len(outputs) == 1 else sum(map(_inner, given, outputs))
        seed = given[0] if len(outputs) == 1 else np.ones_like(array_of(output))
        found = replace(recording, output=output).gradient(seed, keep)
        return tree_like(recording.points, found if keep else _own(found, given))[0]

    def _checked(self) -> _Recording:
        assert self._recording.checksums is not None
        self._recording.checksums.check()
        return self._recording


def _inner(a: Value, b: Value) -> Value:
    return sum_(a * b)


def linearize(function: Function, point: Any) -> Linearization:
    """Return the linear part of a function at a point, for many products with its Jacobian.

    Args:
        function: of one argument; returns an array, or a tree of arrays.
        point: the argument, an array or a tree of arrays.
    """
    return Linearization(function, point)


def vjp(function: Function, *points: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return the value, and a function from its cotangent to those of the points (reverse mode).

    Args:
        function: of the points; returns one array.
        points: the arguments, arrays or trees of them. A cotangent has the shape of the value.
    """
    linear = Linearization(lambda given: function(*given), points)
    return linear.value, linear.pull


def jvp(function: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the value, and its tangent for tangents of the points (forward mode).

    Args:
        function: of the points; returns one array.
        points: a tuple of arguments, arrays or trees of them.
        tangents: in the form of the points; None stands for one of zeros.
    """
    recording = _record(function, points)
    pairs = recording.tangent_pairs(tangents)
    keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
    (tangent,) = pushforward([recording.output], pairs, record=keep)
    tangent = np.zeros_like(array_of(recording.output)) if tangent is None else tangent
    value = recording.plain(recording.output)
    return value, tangent if keep else _own([tangent], [t for _, t in pairs])[0]


def jacobian(function: Function, by: int = 0) -> Function:
    """Return a function that computes the Jacobian by one argument, an array of shape outputs + inputs.

    It uses reverse mode if there are at most as many outputs as inputs, else forward mode.

    Args:
        function: returns one array.
        by: number of the argument to differentiate by, one array.
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
    """Return the unit vectors of the space of x."""
    flat = np.eye(x.size, dtype=x.dtype)
    return [row.reshape(x.shape) for row in flat]


def hessian(function: Function, by: int = 0) -> Function:
    """Return a function that computes the Hessian by one argument, an array of shape inputs + inputs.

    Args:
        function: returns one number.
        by: number of the argument to differentiate by, one array.
    """
    return jacobian(gradient(function, by), by)


def hessian_product(function: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the Hessian of a scalar function times a vector, forward over reverse (Pearlmutter 1994).

    Args:
        function: of the points; returns one number.
        points: a tuple of arguments.
        tangents: the vector, in the form of the points, as the result is.
    """
    recording = _record(function, points)
    pairs = recording.tangent_pairs(tangents)
    gradients = recording.gradient(recording.seed("Hessian"), record=True)
    keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
    found = pushforward(gradients, pairs, record=keep)
    leaves = recording.leaves
    products = [np.zeros_like(leaf.value) if h is None else h for h, leaf in zip(found, leaves, strict=True)]
    return tuple(tree_like(points, products if keep else _own(products, [t for _, t in pairs])))


def gauss_newton_product(
    outputs: Function, cost: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return J^T H J v, the Gauss-Newton matrix times a vector (Schraudolph 2002).

    J is the Jacobian of the outputs by the points, H the Hessian of the cost by the outputs.

    Args:
        outputs: function of the points; returns one array.
        cost: function of the outputs; returns one number.
        points: a tuple of arguments.
        tangents: the vector v, in the form of the points.
    """
    recording = _record(outputs, points)
    pairs = recording.tangent_pairs(tangents)
    (moved,) = pushforward([recording.output], pairs, record=recording.outer)  # J v
    if moved is None:
        return tuple(tree_map(lambda p: np.zeros_like(array_of(p)), points))
    (curved,) = hessian_product(cost, (recording.plain(recording.output),), (moved,))  # H J v
    keep = recording.outer or type(curved) is Tensor  # v, or a tensor in the cost, may be of an outer derivative
    found = recording.gradient(curved)
    return tuple(tree_like(points, found if keep else _own(found, [t for _, t in pairs])))

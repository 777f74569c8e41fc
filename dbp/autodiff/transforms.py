"""Derivatives of functions, as functions that can be differentiated again, in any combination.

Functions take arrays, or dictionaries, lists and tuples of arrays, and give one array. What comes back is
made of arrays; within a function that is itself being differentiated it is made of tensors.

Derivatives are those at the points as they are given: writable arrays among them are copied. Results are
writable arrays of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbp.autodiff.graph import depends_on_others, pullback, pushforward
from dbp.autodiff.primitives import identity, reshape, stack, sum_
from dbp.autodiff.pytree import along, change, leaves_of, like
from dbp.autodiff.tensor import ShapeError, Tensor, Value, array_of
from dbp.autodiff.write_protection import Guard, Seal
from dbp.types import Array

Function = Callable[..., Any]
By = int | tuple[int, ...]


@dataclass(frozen=True)
class _Recording:
    """A function's output and the leaves it was recorded from."""

    points: Any  # a tree
    leaves: list[Tensor]
    output: Any  # one array, but for Linearization a tree
    outer: bool  # whether an outer derivative must be able to go through the result
    seal: Seal | None = None  # of the arrays that were used, if derivatives are found later

    def gradient(self, cotangent: Value, record: bool = False) -> list[Value]:
        """For each leaf its cotangent, zero where the output does not depend on it."""
        record = record or self.outer or type(cotangent) is Tensor
        found: list[Value | None] = [None] * len(self.leaves)
        if type(self.output) is Tensor:
            found = pullback(self.output, cotangent, self.leaves, record)
        return [np.zeros_like(leaf.value) if g is None else g for leaf, g in zip(self.leaves, found, strict=True)]

    def seed(self, of_what: str) -> Value:
        """The cotangent of the one number that the function gives; ValueError if it gives more or fewer."""
        if np.size(self.output) != 1:
            raise ValueError(f"a {of_what} is that of one number, but the function gave shape {np.shape(self.output)}")
        return np.ones_like(array_of(self.output))

    def moves(self, tangents: Any) -> list[tuple[Tensor, Value]]:
        """Each leaf that moves with its tangent, of trees that have the form of the points."""
        given = zip(self.leaves, along(self.points, tangents, "tangents", "points"), strict=True)
        return [(leaf, _fitting(t, leaf, "tangent", "point")) for leaf, t in given if t is not None]

    def plain(self, x: Value) -> Value:
        """A result as it is for an outer derivative, else an array of its own."""
        return x if self.outer else np.array(array_of(x))


def _own(results: Sequence[Value], given: Sequence[Any] = ()) -> list[Array]:
    """Results as writable arrays that share memory neither with each other nor with what was given."""
    arrays: list[Array] = []
    taken = {id(x) for x in given}
    for x in results:
        array = x.value if type(x) is Tensor else np.asarray(x)
        shared = array.base is not None or id(array) in taken or not array.flags.writeable
        arrays.append(array.copy() if shared else array)
        taken.add(id(array))
    return arrays


def leaf_at(point: Any) -> Tensor:
    """A tensor to differentiate by, with the numbers of a point; TypeError if they are no floats."""
    if type(point) is Tensor:
        return identity(point)  # type: ignore[no-any-return]
    array = np.asarray(point)
    if array.dtype.kind != "f":
        raise TypeError(f"a derivative by {array.dtype} does not exist; give floats, such as x.astype(float)")
    return Tensor(array)


def _fitting(given: Any, place: Value, name: str, of_what: str) -> Value:
    """A tangent or cotangent in the type of what it belongs to; ShapeError if it has another shape."""
    if np.shape(given) != np.shape(place):
        raise ShapeError(f"a {name} of shape {np.shape(given)} does not fit its {of_what}, of shape {np.shape(place)}")
    return given if type(given) is Tensor else np.asarray(given, array_of(place).dtype)


def _unshared(point: Any) -> Any:
    """A point that nobody else changes; who gives a read-only array does not either."""
    return point.copy() if isinstance(point, np.ndarray) and point.flags.writeable else point


def _record(function: Function, points: Any, later: bool = False) -> _Recording:
    """Call a function of the points, a tuple of trees, and keep the graph; if for later, it may give a tree too."""
    leaves = [leaf_at(_unshared(point)) for point in leaves_of(points)]
    with Guard() as guard:
        output = function(*like(points, leaves))
        outputs = leaves_of(output) if later else [output]
        seal = guard.seal() if later else None
        outer = any(type(point) is Tensor for point in leaves_of(points))
        outer = outer or any(type(y) is Tensor and depends_on_others(y, leaves) for y in outputs)
        if outer:
            guard.hand_over()
    for y in outputs:
        if not isinstance(y, (Tensor, np.ndarray, np.number, float, int)):
            raise TypeError(f"a function to differentiate must give one array, but this one gave a {type(y).__name__}")
    return _Recording(points, leaves, output, outer, seal)


def _places(by: By, count: int) -> list[int]:
    """The numbers of the arguments to differentiate by, counted from the first."""
    numbers = by if isinstance(by, (tuple, list)) else (by,)
    for i in numbers:
        if not -count <= i < count:
            raise ValueError(f"by={by} names argument {i}, but the function was given {count}, 0 to {count - 1}")
    places = [i % count for i in numbers]
    if len(set(places)) < len(places):
        raise ValueError(f"by={by} names an argument of the {count} twice")
    return places


def _record_by(function: Function, arguments: Sequence[Any], by: By) -> _Recording:
    places = _places(by, len(arguments))

    def of_the_chosen(*chosen: Any) -> Any:
        given = dict(zip(places, chosen, strict=True))
        return function(*(given.get(i, argument) for i, argument in enumerate(arguments)))

    return _record(of_the_chosen, tuple(arguments[i] for i in places))


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
        found = recording.gradient(recording.seed("gradient"))
        gradients = like(recording.points, found if recording.outer else _own(found))
        return recording.plain(recording.output), gradients if isinstance(by, (tuple, list)) else gradients[0]

    return both


def gradient(function: Function, by: By = 0) -> Function:
    """The gradient of a scalar function, as a function of the same arguments."""
    return lambda *arguments: value_and_gradient(function, by)(*arguments)[1]


class Linearization:
    """A function near a point, recorded once: value + J (x - point), of which J and its transpose can be asked often.

    What the function gives may be a tree too, such as a gradient, whose J is the Hessian.
    """

    def __init__(self, function: Function, point: Any):
        self._recording = _record(function, (point,), later=True)

    @property
    def value(self) -> Any:
        """What the function gives at the point."""
        return change(self._recording.plain, self._recording.output)

    def push(self, tangent: Any) -> Any:
        """J times a tangent, which has the form of the point, with None for what does not move (forward mode)."""
        recording, outputs = self._checked(), leaves_of(self._recording.output)
        pairs = recording.moves((tangent,))
        keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
        moved = pushforward(outputs, pairs, record=keep)
        found = [np.zeros_like(array_of(y)) if t is None else t for y, t in zip(outputs, moved, strict=True)]
        return like(recording.output, found if keep else _own(found, [t for _, t in pairs]))

    def pull(self, cotangent: Any) -> Any:
        """The transpose of J times a cotangent, which has the form of the value (reverse mode)."""
        recording, outputs = self._checked(), leaves_of(self._recording.output)
        given = along(recording.output, cotangent, "cotangents", "value")
        given = [_fitting(g, y, "cotangent", "value") for g, y in zip(given, outputs, strict=True)]
        keep = recording.outer or any(type(g) is Tensor for g in given)
        # Of several outputs it is the gradient of their inner product with what is given.
        output = outputs[0] if len(outputs) == 1 else sum(map(_inner, given, outputs))
        seed = given[0] if len(outputs) == 1 else np.ones_like(array_of(output))
        found = replace(recording, output=output).gradient(seed, keep)
        return like(recording.points, found if keep else _own(found, given))[0]

    def _checked(self) -> _Recording:
        assert self._recording.seal is not None
        self._recording.seal.check()
        return self._recording


def _inner(a: Value, b: Value) -> Value:
    return sum_(a * b)


def linearize(function: Function, point: Any) -> Linearization:
    """The function's linear part at a point, a tree: for many products with its derivative, which is recorded once."""
    return Linearization(function, point)


def vjp(function: Function, *points: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value, and the function that takes a cotangent of it to those of the points (reverse mode)."""
    linear = Linearization(lambda given: function(*given), points)
    return linear.value, linear.pull


def jvp(function: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value, and its change for a change of the points (forward mode)."""
    recording = _record(function, points)
    pairs = recording.moves(tangents)
    keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
    (tangent,) = pushforward([recording.output], pairs, record=keep)
    tangent = np.zeros_like(array_of(recording.output)) if tangent is None else tangent
    value = recording.plain(recording.output)
    return value, tangent if keep else _own([tangent], [t for _, t in pairs])[0]


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
    pairs = recording.moves(tangents)
    gradients = recording.gradient(recording.seed("Hessian"), record=True)
    keep = recording.outer or any(type(t) is Tensor for _, t in pairs)
    found = pushforward(gradients, pairs, record=keep)
    leaves = recording.leaves
    products = [np.zeros_like(leaf.value) if h is None else h for h, leaf in zip(found, leaves, strict=True)]
    return tuple(like(points, products if keep else _own(products, [t for _, t in pairs])))


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
    pairs = recording.moves(tangents)
    (moved,) = pushforward([recording.output], pairs, record=recording.outer)  # J v
    if moved is None:
        return tuple(change(lambda p: np.zeros_like(array_of(p)), points))
    (curved,) = hessian_product(cost, (recording.plain(recording.output),), (moved,))  # H J v
    keep = recording.outer or type(curved) is Tensor  # as v or what the cost uses may be differentiated too
    found = recording.gradient(curved)
    return tuple(like(points, found if keep else _own(found, [t for _, t in pairs])))

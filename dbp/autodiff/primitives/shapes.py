"""Primitives that move elements without changing them, and the sum, the adjoint of broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.exceptions import AxisError

from dbp.autodiff.row_sums import added_by_row
from dbp.autodiff.tensor import Primitive, ShapeError, Value, array_of
from dbp.types import Array

Axes = int | Sequence[int] | None


def axes_of(axis: Axes) -> Any:
    """Return axes as NumPy's reductions take them: a list becomes a tuple."""
    return tuple(axis) if isinstance(axis, list) else axis


def reduced_axes(x: Value, axis: Axes) -> set[int]:
    """Return the numbers, from 0 on, of the axes of x that a reduction over `axis` removes."""
    n = np.ndim(x)
    axes = range(n) if axis is None else [axis] if isinstance(axis, (int, np.integer)) else axis
    return {a % n for a in axes} if n else set()


def keepdims_shape(x: Value, axis: Axes) -> tuple[int, ...]:
    """Return the shape of x with the reduced axes at length one, as keepdims=True leaves them."""
    removed = reduced_axes(x, axis)
    return tuple(1 if i in removed else length for i, length in enumerate(np.shape(x)))


def along(axis: int, ndim: int, part: Any) -> tuple[Any, ...]:
    """Return the index that takes a part of one of so many axes."""
    return (*(slice(None),) * (axis % ndim), part)


def broadcast_back(g: Value, x: Value, axis: Axes) -> Value:
    """Broadcast g, which has the shape of a reduction of x over `axis`, to the shape of x."""
    return broadcast_to(reshape(g, shape=keepdims_shape(x, axis)), shape=np.shape(x))


def rows_of(x: Value) -> Value:
    """Return x as a matrix whose rows run along its last axis."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def of_one_type(*arrays: Any) -> list[Array]:
    """Return arrays in the type that holds the numbers of all of them."""
    dtype = np.result_type(*arrays)
    return [np.asarray(array, dtype) for array in arrays]


def unbroadcast(g: Value, x: Value) -> Value:
    """Sum the cotangent g over the axes along which x was broadcast, the adjoint of broadcasting."""
    target = np.shape(x)
    if np.shape(g) == target:
        return g
    extra = np.ndim(g) - len(target)
    stretched = [i + extra for i, n in enumerate(target) if n == 1 and np.shape(g)[i + extra] != 1]
    return reshape(sum_(g, axis=(*range(extra), *stretched)), shape=target)


def broadcast_tangent(t: Value, y: Value) -> Value:
    """Broadcast the tangent of an input to the shape of the output."""
    return t if np.shape(t) == np.shape(y) else broadcast_to(t, shape=np.shape(y))


def _reshape(x: Any, shape: Any) -> Any:
    try:
        return np.reshape(x, shape)
    except ValueError:
        raise ValueError(f"{np.size(x)} elements do not fit {shape}") from None


identity = Primitive(  # a node of its own with the same value
    "identity",
    lambda x: x,
    reverse=[lambda g, y, x: g],
    forward=[lambda t, y, x: t],
)
reshape: Primitive = Primitive(
    "reshape",
    _reshape,
    reverse=[lambda g, y, x, shape: reshape(g, shape=np.shape(x))],
    forward=[lambda t, y, x, shape: reshape(t, shape=np.shape(y))],
)


def _inverse(axes: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the axes of the inverse transposition."""
    return None if axes is None else tuple(int(i) for i in np.argsort([axis % len(axes) for axis in axes]))


transpose: Primitive = Primitive(
    "transpose",
    lambda x, axes=None: np.transpose(x, axes),
    reverse=[lambda g, y, x, axes=None: transpose(g, axes=_inverse(axes))],
    forward=[lambda t, y, x, axes=None: transpose(t, axes=axes)],
)
broadcast_to: Primitive = Primitive(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    reverse=[lambda g, y, x, shape: unbroadcast(g, x)],
    forward=[lambda t, y, x, shape: broadcast_to(t, shape=shape)],
)
sum_: Primitive = Primitive(
    "sum",
    lambda x, axis=None, keepdims=False: np.add.reduce(x, axis=axes_of(axis), keepdims=keepdims),
    reverse=[lambda g, y, x, axis=None, keepdims=False: broadcast_back(g, x, axis)],
    forward=[lambda t, y, x, axis=None, keepdims=False: sum_(t, axis=axis, keepdims=keepdims)],
)


def _cotangent_of_input(i: int, g: Value, xs: Sequence[Value], axis: int) -> Value:
    """Return the cotangent of input i of a concatenation: its part of the output's cotangent g."""
    start = sum(np.shape(x)[axis] for x in xs[:i])
    index: list[Any] = [slice(None)] * np.ndim(g)
    index[axis] = slice(start, start + np.shape(xs[i])[axis])
    return take(g, index=tuple(index))


def _tangent_in_output(i: int, t: Value, y: Value, xs: Sequence[Value], axis: int) -> Value:
    """Return the tangent of a concatenation due to that of input i: zeros for the other inputs."""
    before = sum(np.shape(x)[axis] for x in xs[:i])
    width = [(0, 0)] * np.ndim(y)
    width[axis] = (before, np.shape(y)[axis] - before - np.shape(xs[i])[axis])
    return pad(t, width=tuple(width))


def _concatenate(*xs: Any, axis: int = 0) -> Any:
    try:
        return np.concatenate(xs, axis=axis)
    except AxisError:
        raise
    except ValueError:
        raise ValueError(f"they must have equally many axes, of equal lengths but for axis {axis}") from None


concatenate: Primitive = Primitive(  # of any number of inputs
    "concatenate",
    _concatenate,
    reverse=lambda i, g, y, *xs, axis=0: _cotangent_of_input(i, g, xs, axis % np.ndim(y)),
    forward=lambda i, t, y, *xs, axis=0: _tangent_in_output(i, t, y, xs, axis % np.ndim(y)),
)


def stack(xs: Sequence[Value], axis: int = 0) -> Value:
    """Join inputs of one shape along a new axis; shape (..., len(xs), ...)."""
    position = axis % (np.ndim(xs[0]) + 1)
    shape = (*np.shape(xs[0])[:position], 1, *np.shape(xs[0])[position:])
    return concatenate(*(reshape(x, shape=shape) for x in xs), axis=position)


def split(x: Value, parts: int, axis: int = 0) -> list[Value]:
    """Cut x into `parts` parts of equal length along an axis; ValueError if the length is no multiple of it."""
    length, rest = divmod(np.shape(x)[axis], parts)
    if rest:
        raise ValueError(f"split: axis {axis} of shape {np.shape(x)} cannot be cut into {parts} equal parts")
    spans = [slice(i * length, (i + 1) * length) for i in range(parts)]
    return [take(x, index=along(axis, np.ndim(x), span)) for span in spans]


# --- indexing ---------------------------------------------------------------------------------------


def _sides(width: Any, x: Value) -> list[tuple[int, int]]:
    """Return the zeros before and after x along each axis."""
    return np.broadcast_to(width, (np.ndim(x), 2)).tolist()  # type: ignore[no-any-return]


def _pad(x: Array, width: Any) -> Any:
    sides = _sides(width, x)
    if not all(isinstance(side, int) and side >= 0 for pair in sides for side in pair):
        return np.pad(x, width)  # which says what is wrong; it takes several times as long for small arrays
    y = np.zeros([before + n + after for (before, after), n in zip(sides, x.shape, strict=True)], x.dtype)
    y[tuple(slice(before, before + n) for (before, _), n in zip(sides, x.shape, strict=True))] = x
    return y


def _unpad(x: Value, width: Any) -> Value:
    sides = zip(_sides(width, x), np.shape(x), strict=True)
    return take(x, index=tuple(slice(before, n - after) for (before, after), n in sides))


pad: Primitive = Primitive(  # with zeros; width is (before, after) for each axis, or for all, or one number for all
    "pad",
    _pad,
    reverse=[lambda g, y, x, width: _unpad(g, width)],
    forward=[lambda t, y, x, width: pad(t, width=width)],
)
take: Primitive = Primitive(  # x[index], with slices, integers, arrays of integers or of booleans
    "take",
    lambda x, index: x[index],
    reverse=[lambda g, y, x, index: scatter_add(g, index=index, shape=np.shape(x))],
    forward=[lambda t, y, x, index: take(t, index=index)],
)


def _scatter_add(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    full = np.zeros(shape, x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is ... or isinstance(part, (int, np.integer, slice)) for part in parts):
        full[index] = x
    elif isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.ndim and index.size and index.min() >= 0:
        numbers, sums = added_by_row(index.reshape(-1), x.reshape(index.size, *shape[1:]))
        full[numbers] = sums
    else:
        np.add.at(full, index, x)  # an index may occur twice
    return full


scatter_add: Primitive = Primitive(  # the adjoint of take: x added to zeros at [index]
    "scatter_add",
    _scatter_add,
    reverse=[lambda g, y, x, index, shape: take(g, index=index)],
    forward=[lambda t, y, x, index, shape: scatter_add(t, index=index, shape=shape)],
)
pick: Primitive = Primitive(  # x[i, index[i]] of a matrix x
    "pick",
    lambda x, index: x[np.arange(len(x)), index],
    reverse=[lambda g, y, x, index: scatter_rows(g, index=index, width=np.shape(x)[1])],
    forward=[lambda t, y, x, index: pick(t, index=index)],
)


def _scatter_rows(x: Any, index: Any, width: int) -> Any:
    matrix = np.zeros((len(x), width), x.dtype)
    matrix[np.arange(len(x)), index] = x
    return matrix


scatter_rows: Primitive = Primitive(  # the adjoint of pick: the matrix with x[i] at [i, index[i]] and zero elsewhere
    "scatter_rows",
    _scatter_rows,
    reverse=[lambda g, y, x, index, width: pick(g, index=index)],
    forward=[lambda t, y, x, index, width: scatter_rows(t, index=index, width=width)],
)

# --- rearrangements by index ------------------------------------------------------------------------


def flip(x: Value, axis: Axes = None) -> Value:
    """Return x with its elements in reverse order along some axes, by default along all."""
    axes = reduced_axes(x, axis)
    return take(x, index=tuple(slice(None, None, -1 if i in axes else None) for i in range(np.ndim(x))))


def roll(x: Value, shift: int | Sequence[int], axis: Axes = None) -> Value:
    """Return x with its elements moved along axes, those from the end to the beginning; by default as if flat."""
    if axis is None:
        return reshape(roll(reshape(x, shape=(-1,)), shift, axis=0), shape=np.shape(x))
    for by, which in np.broadcast(shift, axis):
        length = np.shape(x)[which]
        x = take(x, index=along(int(which), np.ndim(x), np.roll(np.arange(length), int(by))))
    return x


def repeat(x: Value, repeats: int | Sequence[int], axis: int | None = None) -> Value:
    """Return x with each element repeated along an axis, by default of the flat x."""
    if axis is None:
        return repeat(reshape(x, shape=(-1,)), repeats, axis=0)
    return take(x, index=along(axis, np.ndim(x), np.repeat(np.arange(np.shape(x)[axis]), repeats)))


def take_along_axis(x: Value, index: Any, axis: int = -1) -> Value:
    """Return the elements of x by their numbers along an axis; an index has as many axes as x."""
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in np.shape(index))])
    grid[axis] = index
    return take(x, index=tuple(grid))


def sort(x: Value, axis: int = -1) -> Value:
    """Return the elements in ascending order along an axis; those that are equal keep their order."""
    return take_along_axis(x, np.argsort(array_of(x), axis=axis, kind="stable"), axis)


def top_k(x: Value, k: int, axis: int = -1) -> Value:
    """Return the k largest elements along an axis, the largest first; of equal ones those that come first.

    Raises:
        ShapeError: there are fewer than k elements.
    """
    if not 0 <= k <= np.shape(x)[axis]:
        raise ShapeError(f"top_k of shape {np.shape(x)}: axis {axis} has fewer than k = {k} elements")
    order = np.argsort(-array_of(x), axis=axis, kind="stable")
    return take_along_axis(x, np.take(order, np.arange(k), axis=axis), axis)


def diag(x: Value, k: int = 0) -> Value:
    """Return the square matrix with the vector x on its k-th diagonal, or the k-th diagonal of the matrix x."""
    if np.ndim(x) not in (1, 2):
        raise ShapeError(f"diag of shape {np.shape(x)}: it must be a vector or a matrix")
    count = np.shape(x)[0] + abs(k)
    shape = np.shape(x) if np.ndim(x) == 2 else (count, count)
    index = np.nonzero(np.eye(shape[0], shape[1], k))
    return take(x, index=index) if np.ndim(x) == 2 else scatter_add(x, index=index, shape=shape)

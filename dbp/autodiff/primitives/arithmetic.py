"""Arithmetic with broadcasting, choices between two values, and matrix products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.shapes import broadcast_tangent, reshape, transpose, unbroadcast
from dbp.autodiff.tensor import Primitive, Tensor, Value, array_of
from dbp.types import Array

add = Primitive(
    "add",
    np.add,
    reverse=[lambda g, y, a, b: unbroadcast(g, a), lambda g, y, a, b: unbroadcast(g, b)],
    forward=[lambda t, y, a, b: broadcast_tangent(t, y)] * 2,
)
subtract = Primitive(
    "subtract",
    np.subtract,
    reverse=[lambda g, y, a, b: unbroadcast(g, a), lambda g, y, a, b: unbroadcast(-g, b)],
    forward=[lambda t, y, a, b: broadcast_tangent(t, y), lambda t, y, a, b: broadcast_tangent(-t, y)],
)
multiply = Primitive(
    "multiply",
    np.multiply,
    reverse=[lambda g, y, a, b: unbroadcast(g * b, a), lambda g, y, a, b: unbroadcast(g * a, b)],
    forward=[lambda t, y, a, b: t * b, lambda t, y, a, b: t * a],
)
divide = Primitive(
    "divide",
    np.divide,
    reverse=[lambda g, y, a, b: unbroadcast(g / b, a), lambda g, y, a, b: unbroadcast(-g * y / b, b)],
    forward=[lambda t, y, a, b: t / b, lambda t, y, a, b: -t * y / b],
)
negative = Primitive(
    "negative",
    np.negative,
    reverse=[lambda g, y, x: -g],
    forward=[lambda t, y, x: -t],
)


def _by_base(x: Value, n: Value) -> Value:
    """Return n x^(n-1), and zero for x = n = 0, as x^0 is constant."""
    if isinstance(n, (int, float)):  # keeps float32
        return n * x ** (n - 1 if n else 0)
    return n * x ** where((x == 0) & (n == 0), n, n - 1)


def _by_exponent(y: Value, x: Value, n: Value) -> Value:
    """Return x^n log(x), and for x = 0 its limit, zero."""
    base = x if type(x) is Tensor else np.asarray(x, array_of(y).dtype)
    return y * log(where((base == 0) & (n >= 0), 1, base))


power = Primitive(  # x must not be negative if the exponent is a tensor
    "power",
    np.power,
    reverse=[
        lambda g, y, x, n: unbroadcast(g * _by_base(x, n), x),
        lambda g, y, x, n: unbroadcast(g * _by_exponent(y, x, n), n),
    ],
    forward=[lambda t, y, x, n: t * _by_base(x, n), lambda t, y, x, n: t * _by_exponent(y, x, n)],
)
log: Primitive = Primitive(
    "log",
    np.log,
    reverse=[lambda g, y, x: g / x],
    forward=[lambda t, y, x: t / x],
)

# --- choices; at a tie the derivative is shared equally -------------------------------------------------

is_equal = Primitive(  # 1 where a = b, else 0; the derivative is zero
    "is_equal",
    lambda a, b: np.equal(a, b).astype(a.dtype),
    reverse=[None, None],
    forward=[None, None],
)
is_positive = Primitive(  # 1 where x > 0, else 0; the derivative is zero
    "is_positive",
    lambda x: np.greater(x, 0).astype(x.dtype),
    reverse=[None],
    forward=[None],
)
sign = Primitive(  # the derivative is zero
    "sign",
    np.sign,
    reverse=[None],
    forward=[None],
)


def _share(a: Value, b: Value) -> Value:
    """Return 1 where a > b, 0 where a < b, and one half where they are equal."""
    return 0.5 * (1 + sign(a - b))


maximum: Primitive = Primitive(
    "maximum",
    np.maximum,
    reverse=[
        lambda g, y, a, b: unbroadcast(g * _share(a, b), a),
        lambda g, y, a, b: unbroadcast(g * _share(b, a), b),
    ],
    forward=[lambda t, y, a, b: t * _share(a, b), lambda t, y, a, b: t * _share(b, a)],
)
minimum: Primitive = Primitive(
    "minimum",
    np.minimum,
    reverse=[
        lambda g, y, a, b: unbroadcast(g * _share(b, a), a),
        lambda g, y, a, b: unbroadcast(g * _share(a, b), b),
    ],
    forward=[lambda t, y, a, b: t * _share(b, a), lambda t, y, a, b: t * _share(a, b)],
)
where: Primitive = Primitive(  # a where the condition, an array of booleans, is True, else b
    "where",
    np.where,
    reverse=[
        None,
        lambda g, y, c, a, b: unbroadcast(where(c, g, 0), a),
        lambda g, y, c, a, b: unbroadcast(where(c, 0, g), b),
    ],
    forward=[
        None,
        lambda t, y, c, a, b: where(c, broadcast_tangent(t, y), 0),
        lambda t, y, c, a, b: where(c, 0, broadcast_tangent(t, y)),
    ],
)
clip: Primitive = Primitive(  # to [low, high], two numbers; the derivative is 1 within, ends included
    "clip",
    lambda x, low, high: np.clip(x, low, high),
    reverse=[lambda g, y, x, low, high: g * _inside(x, low=low, high=high)],
    forward=[lambda t, y, x, low, high: t * _inside(x, low=low, high=high)],
)
_inside: Primitive = Primitive(  # 1 in [low, high], else 0; the derivative is zero
    "is_inside",
    lambda x, low, high: ((x >= low) & (x <= high)).astype(x.dtype),
    reverse=[None],
    forward=[None],
)

# --- products ---------------------------------------------------------------------------------------


def swap_last(x: Value) -> Value:
    """Exchange the last two axes."""
    n = np.ndim(x)
    return transpose(x) if n == 2 else transpose(x, axes=(*range(n - 2), n - 1, n - 2))


def _matmul(a: Array, b: Array) -> Any:
    try:
        return np.matmul(a, b)
    except ValueError:
        raise ValueError(_misfit(np.shape(a), np.shape(b))) from None


def _misfit(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    if not a or not b:
        return "a scalar has no axis to sum over; multiply with *"
    if a[-1] != b[-2:][0]:
        axis = "last but one" if len(b) > 2 else "first"
        return f"the last axis of the left, {a[-1]}, must be as long as the {axis} of the right, {b[-2:][0]}"
    return (
        f"the matrices fit, but not their stacks: {a[:-2]} and {b[:-2]} must be equal, or 1, axis by axis from the last"
    )


def _row(a: Value) -> Value:
    """Return the left operand, a vector as a matrix of one row."""
    return a if np.ndim(a) > 1 else reshape(a, shape=(1, *np.shape(a)))


def _column(b: Value) -> Value:
    """Return the right operand, a vector as a matrix of one column."""
    return b if np.ndim(b) > 1 else reshape(b, shape=(*np.shape(b), 1))


def _as_matrix_product(g: Value, a: Value, b: Value) -> Value:
    """Return the cotangent of a @ b with the axes that it has if vectors are replaced by matrices."""
    columns = (*np.shape(g), 1) if np.ndim(b) == 1 else np.shape(g)
    shape = (*columns[:-1], 1, columns[-1]) if np.ndim(a) == 1 else columns
    return g if shape == np.shape(g) else reshape(g, shape=shape)


def _in_shape_of(g: Value, x: Value) -> Value:
    return g if np.shape(g) == np.shape(x) else reshape(g, shape=np.shape(x))


matmul: Primitive = Primitive(  # of vectors, matrices, and stacks of matrices, as np.matmul
    "matmul",
    _matmul,
    reverse=[
        lambda g, y, a, b: _in_shape_of(unbroadcast(_as_matrix_product(g, a, b) @ swap_last(_column(b)), _row(a)), a),
        lambda g, y, a, b: _in_shape_of(unbroadcast(swap_last(_row(a)) @ _as_matrix_product(g, a, b), _column(b)), b),
    ],
    forward=[lambda t, y, a, b: t @ b, lambda t, y, a, b: a @ t],
)


def _triangle(x: Value, k: int) -> Array:
    """Return which elements of the matrices of x are on the k-th diagonal or below."""
    rows, columns = np.shape(x)[-2:]
    return np.tri(rows, columns, k, np.bool_)


def tril(x: Value, k: int = 0) -> Value:
    """Return the matrices of x (..., rows, columns) with zeros above the k-th diagonal."""
    return where(_triangle(x, k), x, 0)


def triu(x: Value, k: int = 0) -> Value:
    """Return the matrices of x (..., rows, columns) with zeros below the k-th diagonal."""
    return where(_triangle(x, k - 1), 0, x)


def outer(a: Value, b: Value) -> Value:
    """Return the product of each element of a with each of b, as a matrix."""
    return reshape(a, shape=(-1, 1)) * reshape(b, shape=(1, -1))


def kron(a: Value, b: Value) -> Value:
    """Return the Kronecker product: the matrix a with each element replaced by it times the matrix b."""
    axes = max(np.ndim(a), np.ndim(b))
    of_a, of_b = ((1,) * (axes - np.ndim(x)) + np.shape(x) for x in (a, b))
    blocks = reshape(a, shape=tuple(length for n in of_a for length in (n, 1)))
    inside = reshape(b, shape=tuple(length for n in of_b for length in (1, n)))
    return reshape(blocks * inside, shape=tuple(n * m for n, m in zip(of_a, of_b, strict=True)))


def tensordot(a: Value, b: Value, axes: Any = 2) -> Value:
    """Return the sum of products over axes of a and of b: so many last and first ones, or two lists of axes."""
    if isinstance(axes, (int, np.integer)):
        axes = range(np.ndim(a) - axes, np.ndim(a)), range(axes)
    summed = [[i % max(1, np.ndim(x)) for i in np.atleast_1d(which)] for x, which in zip((a, b), axes, strict=True)]
    of_a, of_b = ([i for i in range(np.ndim(x)) if i not in which] for x, which in zip((a, b), summed, strict=True))
    kept = (*(np.shape(a)[i] for i in of_a), *(np.shape(b)[i] for i in of_b))
    length = math.prod(np.shape(a)[i] for i in summed[0])
    rows = reshape(transpose(a, axes=(*of_a, *summed[0])), shape=(-1, length))
    columns = reshape(transpose(b, axes=(*summed[1], *of_b)), shape=(length, -1))
    return reshape(rows @ columns, shape=kept)

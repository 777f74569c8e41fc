"""Arithmetic with broadcasting, choices between two values, and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbp.autodiff.primitives.shapes import broadcast_tangent, broadcast_to, reshape, transpose, unbroadcast
from dbp.autodiff.tensor import Array, Primitive, Value

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
power = Primitive(  # by a tensor exponent, x must be positive
    "power",
    np.power,
    reverse=[
        lambda g, y, x, n: unbroadcast(g * (n * x ** (n - 1)), x),
        lambda g, y, x, n: unbroadcast(g * (y * log(x)), n),
    ],
    forward=[lambda t, y, x, n: t * (n * x ** (n - 1)), lambda t, y, x, n: t * (y * log(x))],
)
log: Primitive = Primitive(
    "log",
    np.log,
    reverse=[lambda g, y, x: g / x],
    forward=[lambda t, y, x: t / x],
)

# --- choices; the derivative of a tie goes to both sides in equal parts -----------------------------

is_positive = Primitive(  # 1 where x > 0, else 0; its derivative is zero
    "is_positive",
    lambda x: np.greater(x, 0).astype(x.dtype),
    reverse=[None],
    forward=[None],
)
sign = Primitive(  # its derivative is zero
    "sign",
    np.sign,
    reverse=[None],
    forward=[None],
)


def _share(a: Value, b: Value) -> Value:
    """1 where a > b, 0 where a < b, one half where they are equal."""
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
where: Primitive = Primitive(  # a where the condition, an array of booleans, holds, else b
    "where",
    np.where,
    reverse=[
        None,
        lambda g, y, c, a, b: unbroadcast(where(c, g, 0.0 * g), a),
        lambda g, y, c, a, b: unbroadcast(where(c, 0.0 * g, g), b),
    ],
    forward=[
        None,
        lambda t, y, c, a, b: where(c, broadcast_to(t, shape=np.shape(y)), 0.0 * y),
        lambda t, y, c, a, b: where(c, 0.0 * y, broadcast_to(t, shape=np.shape(y))),
    ],
)
clip: Primitive = Primitive(  # to the range from low to high, numbers; the derivative is 1 within, ends included
    "clip",
    lambda x, low, high: np.clip(x, low, high),
    reverse=[lambda g, y, x, low, high: g * _inside(x, low=low, high=high)],
    forward=[lambda t, y, x, low, high: t * _inside(x, low=low, high=high)],
)
_inside: Primitive = Primitive(  # 1 from low to high, else 0; its derivative is zero
    "is_inside",
    lambda x, low, high: ((x >= low) & (x <= high)).astype(x.dtype),
    reverse=[None],
    forward=[None],
)

# --- products ---------------------------------------------------------------------------------------


def _swap(x: Value) -> Value:
    """The last two axes exchanged."""
    n = np.ndim(x)
    return transpose(x) if n == 2 else transpose(x, axes=(*range(n - 2), n - 1, n - 2))


def _matmul(a: Array, b: Array) -> Any:
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError("both need at least two axes; reshape a vector to a row or a column")
    return np.matmul(a, b)


matmul: Primitive = Primitive(  # of matrices, or of stacks of matrices
    "matmul",
    _matmul,
    reverse=[
        lambda g, y, a, b: unbroadcast(g @ _swap(b), a),
        lambda g, y, a, b: unbroadcast(_swap(a) @ g, b),
    ],
    forward=[lambda t, y, a, b: t @ b, lambda t, y, a, b: a @ t],
)


def _einsum(*xs: Array, rule: str) -> Any:
    terms, arrow, output = rule.replace(" ", "").partition("->")
    if not arrow or "." in rule or any(len(set(term)) < len(term) for term in (*terms.split(","), output)):
        raise ValueError(f"rule {rule!r} must be like 'ij,jk->ik': with an arrow, no dots, no letter twice in a term")
    return np.einsum(rule, *xs, optimize=len(xs) > 2)


def _einsum_cotangent(i: int, g: Value, xs: Sequence[Value], rule: str) -> Value:
    """The other inputs and g multiplied, summed over the letters that input i has not, spread over its own."""
    terms, _, output = rule.replace(" ", "").partition("->")
    subscripts = terms.split(",")
    others = [*subscripts[:i], *subscripts[i + 1 :]]
    letters = [x for x in subscripts[i] if x in output or any(x in other for other in others)]
    part = einsum(*xs[:i], *xs[i + 1 :], g, rule=f"{','.join([*others, output])}->{''.join(letters)}")
    shape = tuple(n if x in letters else 1 for x, n in zip(subscripts[i], np.shape(xs[i]), strict=True))
    return broadcast_to(reshape(part, shape=shape), shape=np.shape(xs[i]))


einsum: Primitive = Primitive(  # of any number of inputs, by Einstein's rule: 'ij,jk->ik'
    "einsum",
    _einsum,
    reverse=lambda i, g, y, *xs, rule: _einsum_cotangent(i, g, xs, rule),
    forward=lambda i, t, y, *xs, rule: einsum(*xs[:i], t, *xs[i + 1 :], rule=rule),
)

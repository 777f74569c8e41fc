"""The primitives: each one entry with its value, its reverse rules and its forward rules, easy ones first.

In the rules, g is the cotangent of the output, t the tangent of an input, y the output, and a, b or x
the inputs. Rules use primitives and operators only, so they can be differentiated themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.autodiff.tensor import Array, Primitive, Value

# --- shapes -----------------------------------------------------------------------------------------


def _keep_axes(g: Value, x: Value, axis: int | tuple[int, ...] | None) -> Value:
    """A result reduced over `axis` of x, with those axes put back at length one and spread over them."""
    axes = range(np.ndim(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    removed = {a % np.ndim(x) for a in axes}
    kept = tuple(1 if i in removed else n for i, n in enumerate(np.shape(x)))
    return broadcast_to(reshape(g, shape=kept), shape=np.shape(x))


def unbroadcast(g: Value, x: Value) -> Value:
    """Undo broadcasting: the cotangent g summed over the axes along which x was spread."""
    target = np.shape(x)
    if np.shape(g) == target:
        return g
    extra = np.ndim(g) - len(target)
    stretched = [i + extra for i, n in enumerate(target) if n == 1 and np.shape(g)[i + extra] != 1]
    return reshape(sum_(g, axis=(*range(extra), *stretched)), shape=target)


def _broadcast_tangent(t: Value, y: Value) -> Value:
    return t if np.shape(t) == np.shape(y) else broadcast_to(t, shape=np.shape(y))


reshape: Primitive = Primitive(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    reverse=[lambda g, y, x, shape: reshape(g, shape=np.shape(x))],
    forward=[lambda t, y, x, shape: reshape(t, shape=np.shape(y))],
)
transpose: Primitive = Primitive(
    "transpose",
    np.transpose,
    reverse=[lambda g, y, x: transpose(g)],
    forward=[lambda t, y, x: transpose(t)],
)
broadcast_to: Primitive = Primitive(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    reverse=[lambda g, y, x, shape: unbroadcast(g, x)],
    forward=[lambda t, y, x, shape: broadcast_to(t, shape=shape)],
)
sum_: Primitive = Primitive(
    "sum",
    lambda x, axis=None: np.sum(x, axis=axis),
    reverse=[lambda g, y, x, axis=None: _keep_axes(g, x, axis)],
    forward=[lambda t, y, x, axis=None: sum_(t, axis=axis)],
)

# --- arithmetic, with broadcasting ------------------------------------------------------------------

add = Primitive(
    "add",
    np.add,
    reverse=[lambda g, y, a, b: unbroadcast(g, a), lambda g, y, a, b: unbroadcast(g, b)],
    forward=[lambda t, y, a, b: _broadcast_tangent(t, y)] * 2,
)
subtract = Primitive(
    "subtract",
    np.subtract,
    reverse=[lambda g, y, a, b: unbroadcast(g, a), lambda g, y, a, b: unbroadcast(-g, b)],
    forward=[lambda t, y, a, b: _broadcast_tangent(t, y), lambda t, y, a, b: _broadcast_tangent(-t, y)],
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
power = Primitive(  # to a constant exponent
    "power",
    np.power,
    reverse=[lambda g, y, x, n: g * (n * x ** (n - 1)), None],
    forward=[lambda t, y, x, n: t * (n * x ** (n - 1)), None],
)
matmul = Primitive(  # of two matrices
    "matmul",
    np.matmul,
    reverse=[lambda g, y, a, b: g @ transpose(b), lambda g, y, a, b: transpose(a) @ g],
    forward=[lambda t, y, a, b: t @ b, lambda t, y, a, b: a @ t],
)

# --- element by element -----------------------------------------------------------------------------

exp = Primitive(
    "exp",
    np.exp,
    reverse=[lambda g, y, x: g * y],
    forward=[lambda t, y, x: t * y],
)
log = Primitive(
    "log",
    np.log,
    reverse=[lambda g, y, x: g / x],
    forward=[lambda t, y, x: t / x],
)
sin: Primitive = Primitive(
    "sin",
    np.sin,
    reverse=[lambda g, y, x: g * cos(x)],
    forward=[lambda t, y, x: t * cos(x)],
)
cos: Primitive = Primitive(
    "cos",
    np.cos,
    reverse=[lambda g, y, x: -g * sin(x)],
    forward=[lambda t, y, x: -t * sin(x)],
)
tanh = Primitive(
    "tanh",
    np.tanh,
    reverse=[lambda g, y, x: g * (1 - y * y)],
    forward=[lambda t, y, x: t * (1 - y * y)],
)


def _sigmoid(x: Array) -> Any:
    # By way of tanh, which neither overflows nor warns for large arguments.
    return 0.5 * np.tanh(0.5 * x) + 0.5


sigmoid = Primitive(
    "sigmoid",
    _sigmoid,
    reverse=[lambda g, y, x: g * (y * (1 - y))],
    forward=[lambda t, y, x: t * (y * (1 - y))],
)
softplus = Primitive(  # log(1 + exp(x)), without overflow
    "softplus",
    lambda x: np.logaddexp(x, x.dtype.type(0)),
    reverse=[lambda g, y, x: g * sigmoid(x)],
    forward=[lambda t, y, x: t * sigmoid(x)],
)
is_positive = Primitive(  # 1 where x > 0, else 0; its derivative is zero
    "is_positive",
    lambda x: np.greater(x, 0).astype(x.dtype),
    reverse=[None],
    forward=[None],
)
relu = Primitive(
    "relu",
    lambda x: np.maximum(x, 0),
    reverse=[lambda g, y, x: g * is_positive(y)],
    forward=[lambda t, y, x: t * is_positive(y)],
)


def _expm1_of_negative(x: Array) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


elu = Primitive(  # x for x > 0, else exp(x) - 1
    "elu",
    _expm1_of_negative,
    reverse=[lambda g, y, x: g * _elu_slope(y, x)],
    forward=[lambda t, y, x: t * _elu_slope(y, x)],
)


def _elu_slope(y: Value, x: Value) -> Value:
    return is_positive(x) + (1 - is_positive(x)) * (y + 1)


# --- along the last axis ----------------------------------------------------------------------------


def _log_softmax(x: Array) -> Any:
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _last_axis_sum(x: Value) -> Value:
    return _keep_axes(sum_(x, axis=-1), x, -1)


log_softmax = Primitive(
    "log_softmax",
    _log_softmax,
    reverse=[lambda g, y, x: g - exp(y) * _last_axis_sum(g)],
    forward=[lambda t, y, x: t - _last_axis_sum(exp(y) * t)],
)
pick: Primitive = Primitive(  # x[i, index[i]] of a matrix x
    "pick",
    lambda x, index: x[np.arange(len(x)), index],
    reverse=[lambda g, y, x, index: place(g, index=index, width=np.shape(x)[1])],
    forward=[lambda t, y, x, index: pick(t, index=index)],
)


def _place(x: Array, index: Array, width: int) -> Array:
    matrix = np.zeros((len(x), width), x.dtype)
    matrix[np.arange(len(x)), index] = x
    return matrix


place: Primitive = Primitive(  # the matrix with x[i] at [i, index[i]] and zero elsewhere
    "place",
    _place,
    reverse=[lambda g, y, x, index, width: pick(g, index=index)],
    forward=[lambda t, y, x, index, width: place(t, index=index, width=width)],
)

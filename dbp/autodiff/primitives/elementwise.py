"""Elementwise functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.autodiff.primitives.arithmetic import is_positive, sign
from dbp.autodiff.primitives.shapes import unbroadcast
from dbp.autodiff.tensor import Primitive, Value
from dbp.types import Array

exp = Primitive(
    "exp",
    np.exp,
    reverse=[lambda g, y, x: g * y],
    forward=[lambda t, y, x: t * y],
)
log1p = Primitive(
    "log1p",
    np.log1p,
    reverse=[lambda g, y, x: g / (1 + x)],
    forward=[lambda t, y, x: t / (1 + x)],
)
expm1 = Primitive(
    "expm1",
    np.expm1,
    reverse=[lambda g, y, x: g * (y + 1)],
    forward=[lambda t, y, x: t * (y + 1)],
)
square = Primitive(
    "square",
    np.square,
    reverse=[lambda g, y, x: g * (2 * x)],
    forward=[lambda t, y, x: t * (2 * x)],
)
sqrt = Primitive(
    "sqrt",
    np.sqrt,
    reverse=[lambda g, y, x: 0.5 * g / y],
    forward=[lambda t, y, x: 0.5 * t / y],
)
abs_ = Primitive(  # the derivative at 0 is 0
    "abs",
    np.abs,
    reverse=[lambda g, y, x: g * sign(x)],
    forward=[lambda t, y, x: t * sign(x)],
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
tan = Primitive(
    "tan",
    np.tan,
    reverse=[lambda g, y, x: g * (1 + y * y)],
    forward=[lambda t, y, x: t * (1 + y * y)],
)
arcsin = Primitive(
    "arcsin",
    np.arcsin,
    reverse=[lambda g, y, x: g / sqrt(1 - x * x)],
    forward=[lambda t, y, x: t / sqrt(1 - x * x)],
)
arccos = Primitive(
    "arccos",
    np.arccos,
    reverse=[lambda g, y, x: -g / sqrt(1 - x * x)],
    forward=[lambda t, y, x: -t / sqrt(1 - x * x)],
)
arctan = Primitive(
    "arctan",
    np.arctan,
    reverse=[lambda g, y, x: g / (1 + x * x)],
    forward=[lambda t, y, x: t / (1 + x * x)],
)
arctan2 = Primitive(  # the angle of the point (b, a), in radians
    "arctan2",
    np.arctan2,
    reverse=[
        lambda g, y, a, b: unbroadcast(g * b / (a * a + b * b), a),
        lambda g, y, a, b: unbroadcast(-g * a / (a * a + b * b), b),
    ],
    forward=[lambda t, y, a, b: t * b / (a * a + b * b), lambda t, y, a, b: -t * a / (a * a + b * b)],
)
sinh: Primitive = Primitive(
    "sinh",
    np.sinh,
    reverse=[lambda g, y, x: g * cosh(x)],
    forward=[lambda t, y, x: t * cosh(x)],
)
cosh: Primitive = Primitive(
    "cosh",
    np.cosh,
    reverse=[lambda g, y, x: g * sinh(x)],
    forward=[lambda t, y, x: t * sinh(x)],
)
slope_of_tanh: Primitive = Primitive(  # of its value y; one node, as networks in equations have many of them
    "slope_of_tanh",
    lambda y: 1 - y * y,
    reverse=[lambda g, s, y: g * (-2 * y)],
    forward=[lambda t, s, y: t * (-2 * y)],
)
tanh = Primitive(
    "tanh",
    np.tanh,
    reverse=[lambda g, y, x: g * slope_of_tanh(y)],
    forward=[lambda t, y, x: t * slope_of_tanh(y)],
)
arcsinh = Primitive(
    "arcsinh",
    np.arcsinh,
    reverse=[lambda g, y, x: g / sqrt(x * x + 1)],
    forward=[lambda t, y, x: t / sqrt(x * x + 1)],
)
arccosh = Primitive(
    "arccosh",
    np.arccosh,
    reverse=[lambda g, y, x: g / sqrt(x * x - 1)],
    forward=[lambda t, y, x: t / sqrt(x * x - 1)],
)
arctanh = Primitive(
    "arctanh",
    np.arctanh,
    reverse=[lambda g, y, x: g / (1 - x * x)],
    forward=[lambda t, y, x: t / (1 - x * x)],
)
sigmoid = Primitive(  # by tanh, which neither overflows nor warns for large arguments
    "sigmoid",
    lambda x: 0.5 * np.tanh(np.multiply(0.5, x)) + 0.5,
    reverse=[lambda g, y, x: g * (y * (1 - y))],
    forward=[lambda t, y, x: t * (y * (1 - y))],
)
softplus = Primitive(  # log(1 + exp(x)), without overflow
    "softplus",
    lambda x: np.logaddexp(x, 0),
    reverse=[lambda g, y, x: g * sigmoid(x)],
    forward=[lambda t, y, x: t * sigmoid(x)],
)
gate: Primitive = Primitive(  # g where y > 0, else 0; the derivative by y is zero
    "gate",
    lambda g, y: np.multiply(g, np.greater(y, 0)),
    reverse=[lambda c, z, g, y: gate(c, y), None],
    forward=[lambda t, z, g, y: gate(t, y), None],
)
relu = Primitive(
    "relu",
    lambda x: np.maximum(x, 0),
    reverse=[lambda g, y, x: gate(g, y)],
    forward=[lambda t, y, x: gate(t, y)],
)


def _elu(x: Array) -> Any:
    return np.where(np.greater(x, 0), x, np.expm1(np.minimum(x, 0)))


def _elu_slope(y: Value, x: Value) -> Value:
    return is_positive(x) + (1 - is_positive(x)) * (y + 1)


elu = Primitive(  # x for x > 0, else exp(x) - 1 (Clevert, Unterthiner and Hochreiter 2016)
    "elu",
    _elu,
    reverse=[lambda g, y, x: g * _elu_slope(y, x)],
    forward=[lambda t, y, x: t * _elu_slope(y, x)],
)


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """Return x where it is positive, else slope * x (Maas, Hannun and Ng 2013)."""
    return (1 - slope) * relu(x) + slope * x


def silu(x: Value) -> Value:
    """Return x sigmoid(x), also called swish (Elfwing, Uchibe and Doya 2018)."""
    return x * sigmoid(x)


def gelu(x: Value) -> Value:
    """Return x times the normal distribution function of x, in the tanh approximation (Hendrycks and Gimpel 2016)."""
    return x * sigmoid(1.5957691216057308 * (x + 0.044715 * (x * x * x)))

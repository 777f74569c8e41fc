"""Derivatives of functions written with NumPy arrays: primitives, the graph, and walks over it."""

from dbp.autodiff.check import check_derivatives
from dbp.autodiff.primitives import (
    broadcast_to,
    cos,
    elu,
    exp,
    log,
    log_softmax,
    pick,
    relu,
    reshape,
    sigmoid,
    sin,
    softplus,
    sum_,
    tanh,
    transpose,
)
from dbp.autodiff.tensor import PRIMITIVES, Array, Primitive, Tensor, Value, array_of
from dbp.autodiff.transforms import pullback, pushforward, value_and_gradient

__all__ = [
    "PRIMITIVES",
    "Array",
    "Primitive",
    "Tensor",
    "Value",
    "array_of",
    "broadcast_to",
    "check_derivatives",
    "cos",
    "elu",
    "exp",
    "log",
    "log_softmax",
    "pick",
    "pullback",
    "pushforward",
    "relu",
    "reshape",
    "sigmoid",
    "sin",
    "softplus",
    "sum_",
    "tanh",
    "transpose",
    "value_and_gradient",
]

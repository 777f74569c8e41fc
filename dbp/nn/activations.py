"""Activation functions, by name."""

from __future__ import annotations

from collections.abc import Callable

from dbp.autodiff import Value, elu, gelu, leaky_relu, relu, sigmoid, silu, softmax, softplus, tanh
from dbp.autodiff.primitives.error_function import gelu_exact
from dbp.errors import unknown


def linear(x: Value) -> Value:
    """X itself."""
    return x


ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "linear": linear,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": silu,
    "gelu": gelu,
    "gelu_exact": gelu_exact,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softplus": softplus,
    "softmax": softmax,
}


def activation(name: str) -> Callable[[Value], Value]:
    """The activation of that name; UserError for an unknown one."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]

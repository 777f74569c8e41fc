"""Activation functions, by name."""

from __future__ import annotations

from collections.abc import Callable

from dbp.autodiff import Value, elu, exp, log_softmax, relu, sigmoid, softplus, tanh
from dbp.errors import unknown


def leaky_relu(x: Value) -> Value:
    """X where it is positive, else 0.01 x (Maas, Hannun and Ng 2013)."""
    return 0.99 * relu(x) + 0.01 * x


def silu(x: Value) -> Value:
    """X sigmoid(x) (Elfwing, Uchibe and Doya 2018)."""
    return x * sigmoid(x)


def gelu(x: Value) -> Value:
    """X times the normal distribution function at x, by way of tanh (Hendrycks and Gimpel 2016)."""
    return x * sigmoid(1.5957691216057308 * (x + 0.044715 * (x * x * x)))


def softmax(x: Value) -> Value:
    """Probabilities along the last axis."""
    return exp(log_softmax(x))


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

"""Activation functions, by name.

To add one, write it with the primitives of dbp.autodiff, enter it in ACTIVATIONS, and name it in docs/config.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dbp.autodiff import Value, elu, gelu, leaky_relu, relu, sigmoid, silu, softmax, softplus, tanh
from dbp.autodiff.primitives.error_function import erfc
from dbp.errors import unknown


def linear(x: Value) -> Value:
    """Return x itself."""
    return x


def gelu_exact(x: Value) -> Value:
    """Return x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * erfc(x * -math.sqrt(0.5))


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
    """Return the activation function of this name; UserError for an unknown one."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]

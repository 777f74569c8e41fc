"""Activation functions, by name.

To add one, write it with the primitives of dbp.autodiff, enter it in ACTIVATIONS, and name it in docs/config.md.
"""

from __future__ import annotations

from collections.abc import Callable

from dbp.autodiff import (
    Value,
    elu,
    gelu_block,
    gelu_exact_block,
    leaky_relu,
    relu,
    sigmoid,
    silu_block,
    softmax,
    softplus,
    tanh,
)
from dbp.errors import unknown


def linear(x: Value) -> Value:
    """Return x itself."""
    return x


ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "linear": linear,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": silu_block,
    "gelu": gelu_block,
    "gelu_exact": gelu_exact_block,
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

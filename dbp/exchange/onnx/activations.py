"""Activation functions in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbp.errors import UserError
from dbp.exchange.onnx.graph import Place, Value

Function = Callable[[Place, Value], Value]


def _operator(op: str, **attributes: Any) -> Function:
    return lambda place, x: place.apply(op, x, **attributes)


def _silu(place: Place, x: Value) -> Value:
    return place.apply("Mul", x, place.apply("Sigmoid", x).name)


FUNCTIONS: dict[str, Function] = {
    "linear": lambda place, x: x,
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", alpha=0.01),
    "elu": _operator("Elu", alpha=1.0),
    "silu": _silu,
    "gelu": _operator("Gelu", approximate="tanh"),
    "gelu_exact": _operator("Gelu", approximate="none"),
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "softplus": _operator("Softplus"),
    "softmax": lambda place, x: place.apply("Softmax", x, axis=x.place_of(-1)),
}


def activate(place: Place, name: str, x: Value) -> Value:
    """The activation of that name; UserError for one of the user's own."""
    if name not in FUNCTIONS:
        raise UserError(
            f"{place.path.rstrip('/')}: activation {name!r} is of your own code, which ONNX has no operator for"
        )
    return FUNCTIONS[name](place, x)

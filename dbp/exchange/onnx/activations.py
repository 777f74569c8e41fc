"""Activation functions in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbp.errors import UserError
from dbp.exchange.onnx.graph import OnnxScope, Value

Function = Callable[[OnnxScope, Value], Value]


def _operator(op: str, **attributes: Any) -> Function:
    return lambda scope, x: scope.apply(op, x, **attributes)


def _silu(scope: OnnxScope, x: Value) -> Value:
    return scope.apply("Mul", x, scope.apply("Sigmoid", x).name)


FUNCTIONS: dict[str, Function] = {
    "linear": lambda scope, x: x,
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", alpha=0.01),
    "elu": _operator("Elu", alpha=1.0),
    "silu": _silu,
    "gelu": _operator("Gelu", approximate="tanh"),
    "gelu_exact": _operator("Gelu", approximate="none"),
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "softplus": _operator("Softplus"),
    "softmax": lambda scope, x: scope.apply("Softmax", x, axis=x.graph_axis(-1)),
}


def activate(scope: OnnxScope, name: str, x: Value) -> Value:
    """Add the activation of that name; raise UserError if it is the user's own function."""
    if name not in FUNCTIONS:
        raise UserError(
            f"{scope.path.rstrip('/')}: activation {name!r} is your own function, for which ONNX has no operator"
        )
    return FUNCTIONS[name](scope, x)

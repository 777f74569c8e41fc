"""What a layer is, and checks of its settings and inputs."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from dbp.autodiff import Value
from dbp.errors import UserError
from dbp.nn.scope import Scope


class Layer(Protocol):
    """A frozen record of settings, with a kind for its name, called with the scope that holds its parameters."""

    kind: ClassVar[str]

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The outputs for inputs whose first axis counts the examples."""
        ...


def whole(name: str, value: Any, least: int) -> int:
    """A setting that must be a whole number; UserError if it is none, or too small."""
    if not is_whole(value):
        raise UserError(f"{name} must be a whole number, but is {value!r}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, but is {value}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or of NumPy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def counts(layer: Any, *names: str) -> None:
    """Settings of a layer that must be whole numbers from 1 on."""
    for name in names:
        object.__setattr__(layer, name, whole(name, getattr(layer, name), 1))


def check_layer(layer: Any) -> None:
    """UserError, saying what it is instead, if this is no layer."""
    check_no_class(layer)
    if not callable(layer):
        raise UserError(f"{layer!r} is not a layer; give an object such as Dense(10)")
    if not isinstance(getattr(layer, "kind", None), str):
        name = getattr(layer, "__name__", type(layer).__name__)
        raise UserError(
            f"{name} has no kind, after which a layer in a list is named; give its class one, such as "
            "kind: ClassVar[str] = 'mine', or make it the whole model"
        )


def check_no_class(thing: Any) -> None:
    """UserError for a class where an object made of it is wanted."""
    if isinstance(thing, type):
        raise UserError(f"{thing.__name__} is a class; make an object of it: {thing.__name__}(...)")


def check_axes(x: Value, axes: tuple[str, ...], remedy: str) -> None:
    """UserError if an example does not have these axes."""
    if np.ndim(x) != len(axes) + 1:
        raise UserError(f"takes ({', '.join(axes)}) per example, but its inputs have shape {np.shape(x)[1:]}; {remedy}")

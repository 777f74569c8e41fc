"""What a layer is, and checks of its settings and inputs."""

from __future__ import annotations

from typing import ClassVar, Protocol

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


def at_least(name: str, value: float, least: float) -> None:
    """UserError if a setting is too small."""
    if value < least:
        raise UserError(f"{name} must be at least {least}, but is {value}")


def check_axes(x: Value, axes: tuple[str, ...], remedy: str) -> None:
    """UserError if an example does not have these axes."""
    if np.ndim(x) != len(axes) + 1:
        raise UserError(f"takes ({', '.join(axes)}) per example, but its inputs have shape {np.shape(x)[1:]}; {remedy}")

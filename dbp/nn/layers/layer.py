"""The interface of layers, and checks of their settings and inputs."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from dbp.autodiff import Value
from dbp.checks import check_integer
from dbp.errors import UserError
from dbp.nn.scope import Scope


class Layer(Protocol):
    """A frozen dataclass of settings that maps inputs to outputs; `kind` names it in configs and its parameters.

    For inputs of which some positions are masked, a layer declares `keeps_positions = True`, if its outputs have the
    same positions and those that are filled in have no influence on others; or it calls scope.pass_mask().

    A layer that takes several values declares `takes_several = True`: then x is a tuple of them, in the order in which
    `from` names them, and scope.masks is the tuple of their masks.

    A layer that is faster together with the layer after it has a method `followed_by(after)`, which returns a callable
    (scope, x) that computes both, or None where it cannot; `after` finds no parameters in that scope.
    """

    kind: ClassVar[str]

    def __call__(self, scope: Scope, x: Any) -> Value:
        """Return the outputs for inputs (examples, ...)."""
        ...


def check_counts(layer: Any, *names: str) -> None:
    """Convert settings of a layer to int; UserError unless they are whole numbers of at least 1."""
    for name in names:
        object.__setattr__(layer, name, check_integer(name, getattr(layer, name), 1))


def check_layer(layer: Any) -> None:
    """Raise UserError, saying what it is instead, unless this is a layer."""
    check_not_a_class(layer)
    if not callable(layer):
        raise UserError(f"{layer!r} is not a layer; give an object such as Dense(10)")
    if not isinstance(getattr(layer, "kind", None), str):
        name = getattr(layer, "__name__", type(layer).__name__)
        raise UserError(
            f"{name} has no kind, after which a layer in a list is named; give its class one, such as "
            "kind: ClassVar[str] = 'mine', or make it the whole model"
        )


def check_not_a_class(thing: Any) -> None:
    """Raise UserError for a class given in place of an instance."""
    if isinstance(thing, type):
        raise UserError(f"{thing.__name__} is a class; make an object of it: {thing.__name__}(...)")


def error_in(name: str, error: Exception) -> Exception:
    """Return an error with the name of the layer that raised it in front: "dense_2: units must be ...".

    One that has the path of an inner layer in front gets the name as the first part of the path: then it becomes
    "residual_1/dense_2: units must be ...".
    """
    found = type(error)(f"{name}{'/' if hasattr(error, 'names_layer') else ': '}{error}")
    found.names_layer = True  # type: ignore[attr-defined]
    return found


def check_axes(x: Value, axes: tuple[str, ...], remedy: str) -> None:
    """Raise UserError, with a remedy, unless the inputs have these axes after the axis of examples."""
    if np.ndim(x) != len(axes) + 1:
        raise UserError(f"takes ({', '.join(axes)}) per example, but its inputs have shape {np.shape(x)[1:]}; {remedy}")

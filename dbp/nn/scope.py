"""Where a model finds its parameters: by name, made at the first call and looked up afterwards.

A model is any callable `model(scope, inputs) -> outputs`: a layer, or a function of one's own that asks
`scope.parameter("weight", (inputs.shape[-1], 10))`. Asking twice for one name shares the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from dbp.autodiff import Array, Value
from dbp.errors import UserError
from dbp.nn.initialisers import Shape, initialiser
from dbp.random import generator

Lookup = Callable[[str, Shape, str], Value]


class Scope:
    """A place in the model's tree of names."""

    def __init__(self, lookup: Lookup, path: str = ""):
        self._lookup, self._path = lookup, path

    def parameter(self, name: str, shape: Shape, initial: str = "glorot_uniform") -> Value:
        """The parameter of that name here, of this shape, at first filled by the named initialiser."""
        return self._lookup(self._path + name, shape, initial)

    def inside(self, name: str) -> Scope:
        """The scope of a layer inside this one."""
        return Scope(self._lookup, f"{self._path}{name}/")


class Model(Protocol):
    """A layer, or a function of one's own."""

    def __call__(self, scope: Scope, x: Value, /) -> Value:
        """The outputs, one per example, for inputs whose first axis counts the examples."""
        ...


def initial_parameters(
    model: Model, inputs: Array, seed: int, dtype: np.dtype[Any] | str = "float32"
) -> tuple[dict[str, Array], Shape]:
    """The model's parameters by name, and the shape of its outputs for one example.

    Args:
        model: called once, so that it asks for its parameters.
        inputs: a few examples; only their shape and type matter.
        seed: each parameter is drawn from a stream of its own, keyed by seed and name.
        dtype: of the parameters.
    """
    parameters: dict[str, Array] = {}

    def make(path: str, shape: Shape, initial: str) -> Array:
        if path not in parameters:
            rng = generator(seed, f"initial weights of {path}")
            parameters[path] = initialiser(initial)(rng, shape).astype(dtype)
        elif parameters[path].shape != shape:
            raise UserError(f"parameter {path!r} is asked for as {shape} and {parameters[path].shape}")
        return parameters[path]

    outputs = model(Scope(make), inputs)
    if np.shape(outputs)[:1] != (len(inputs),):
        raise UserError(
            f"a model must give one output per example, but {len(inputs)} examples gave outputs of shape "
            f"{np.shape(outputs)}"
        )
    if not parameters:
        raise UserError("the model has no parameters, so there is nothing to train; add a layer such as dense")
    return parameters, tuple(np.shape(outputs)[1:])


def use(parameters: Mapping[str, Value]) -> Scope:
    """The scope in which a model finds these parameters, arrays or tensors, by name."""
    return Scope(lambda path, _shape, _initial: parameters[path])

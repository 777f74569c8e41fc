"""Layers: settings without state, called with the scope that holds their parameters.

Each is a frozen record of its settings, so that a model can be compared, printed and kept in a config.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from dbp.autodiff import Value, reshape
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initialisers import initialiser
from dbp.nn.scope import Scope


class Layer(Protocol):
    """What a layer of a Sequential is: a kind for its name, and a function of scope and inputs."""

    kind: ClassVar[str]

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The outputs for inputs whose first axis counts the examples."""
        ...


@dataclass(frozen=True)
class Dense:
    """Each output a weighted sum of all inputs: activation(x W + b).

    Inputs (examples, n), outputs (examples, units); W is (n, units) and b (units,).
    """

    kind: ClassVar[str] = "dense"
    units: int
    activation: str = "linear"
    initialiser: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.units < 1:
            raise UserError(f"units must be at least 1, but is {self.units}")
        activation(self.activation)
        initialiser(self.initialiser)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The outputs for inputs of shape (examples, n)."""
        if np.ndim(x) != 2:
            raise UserError(
                f"a dense layer takes one row of numbers per example, but its inputs have shape "
                f"{np.shape(x)[1:]} per example; put a flatten layer in front"
            )
        z = x @ scope.parameter("weight", (np.shape(x)[1], self.units), self.initialiser)
        if self.bias:
            z = z + scope.parameter("bias", (self.units,), "zeros")
        return activation(self.activation)(z)


@dataclass(frozen=True)
class Activation:
    """An activation function as a layer of its own."""

    kind: ClassVar[str] = "activation"
    function: str

    def __post_init__(self) -> None:
        activation(self.function)

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """The function of each input, or along the last axis for softmax."""
        return activation(self.function)(x)


@dataclass(frozen=True)
class Flatten:
    """All numbers of an example in one row."""

    kind: ClassVar[str] = "flatten"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Inputs (examples, ...) as (examples, n)."""
        return reshape(x, shape=(len(x), math.prod(np.shape(x)[1:])))


@dataclass(frozen=True, init=False)
class Sequential:
    """Layers one after the other, named by kind and number: dense_1, dense_2, ..."""

    kind: ClassVar[str] = "sequential"
    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer):
        if not layers:
            raise UserError("a model needs at least one layer")
        object.__setattr__(self, "layers", layers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name per layer."""
        seen: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            seen[layer.kind] += 1
            names.append(f"{layer.kind}_{seen[layer.kind]}")
        return tuple(names)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The last layer's outputs."""
        for name, layer in zip(self.names, self.layers, strict=True):
            x = layer(scope.inside(name), x)
        return x


LAYERS: dict[str, type[Layer]] = {layer.kind: layer for layer in (Dense, Activation, Flatten)}

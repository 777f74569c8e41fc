"""Dense layers, activations, and changes of shape."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import ConstantDense, Value, dense_block, reshape, where
from dbp.autodiff.blocks.activations import FUSED
from dbp.checks import is_integer
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import Layer, check_counts
from dbp.nn.masks import zero_filled
from dbp.nn.scope import Scope

OTHERS = -1  # a length of a shape that follows from the others


@dataclass(frozen=True)
class Dense:
    """Fully connected layer: activation(x W + b).

    Inputs (examples, ..., n), outputs (examples, ..., units), matrix W (n, units), bias b (units,).

    Args:
        units: numbers of the outputs along the last axis.
        activation: name of the function of the sums.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add b, which begins at 0.
    """

    kind: ClassVar[str] = "dense"
    keeps_positions: ClassVar[bool] = True
    units: int
    activation: str = "linear"
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "units")
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs (examples, ..., units)."""
        if x.ndim < 2:
            raise UserError(f"takes a row of numbers per example, but its inputs have shape {np.shape(x)[1:]}")
        scope.mask_of(x)  # raises if the last axis is one of positions, which the layer would mix
        w = scope.parameter("weight", (x.shape[-1], self.units), self.initializer)
        b = scope.parameter("bias", (self.units,), "zeros") if self.bias else None
        block: Callable[..., Value] = functools.partial(dense_block, x, w, b)
        if scope.can_prepare(x):
            block = functools.partial(scope.prepared(ConstantDense, w, b), x)
        if self.activation in FUSED and not scope.records_neurons:
            return block(activation=self.activation)
        return scope.neurons(block(activation="linear"), activation(self.activation))


@dataclass(frozen=True)
class Activation:
    """An activation function as a layer of its own; inputs and outputs of any shape.

    Args:
        function: its name, such as "relu"; "softmax" works along the last axis.
    """

    kind: ClassVar[str] = "activation"
    keeps_positions: ClassVar[bool] = True
    function: str

    def __post_init__(self) -> None:
        activation(self.function)

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return the function of each input; softmax works along the last axis."""
        return activation(self.function)(x)


def is_relu(layer: Layer) -> bool:
    """Return True if the layer is ReLU alone, which others fuse with what they do."""
    return isinstance(layer, Activation) and layer.function == "relu"


@dataclass(frozen=True)
class PReLU:
    """Rectifier with a learned slope: x where it is positive, else slope * x (He et al. 2015, equation 1).

    Inputs and outputs (examples, ..., channels), slopes (channels,), or (1,) if all channels share one.

    Args:
        shared: whether all channels share one slope.
        initializer: name of the distribution that slopes are drawn from; by default they are 0.25.
    """

    kind: ClassVar[str] = "prelu"
    keeps_positions: ClassVar[bool] = True
    shared: bool = False
    initializer: str = "quarters"

    def __post_init__(self) -> None:
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        if not self.shared:
            scope.mask_of(x)  # raises if the last axis is one of positions, each of which would have a slope
        slope = scope.parameter("slope", (1,) if self.shared else np.shape(x)[-1:], self.initializer)
        return where(x > 0, x, slope * x)


@dataclass(frozen=True)
class Flatten:
    """Flattening of each example to one axis: inputs (examples, ...), outputs (examples, numbers)."""

    kind: ClassVar[str] = "flatten"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return inputs (examples, ...) as (examples, n), with zeros for masked positions."""
        x = zero_filled(x, scope.mask)
        scope.pass_mask(None)
        return reshape(x, shape=(len(x), math.prod(np.shape(x)[1:])))


@dataclass(frozen=True)
class Reshape:
    """Change of the shape of each example, such as to (28, 28, 1) for images of one channel.

    One length may be -1, which then follows from the others, such as (-1, 1) for sequences of one channel.
    """

    kind: ClassVar[str] = "reshape"
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.shape, (list, tuple)) or not all(map(is_integer, self.shape)):
            raise UserError(f"shape must be a list of whole numbers, but is {self.shape!r}")
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        if not self.shape or min(self.shape) < -1 or 0 in self.shape or self.shape.count(OTHERS) > 1:
            raise UserError(f"shape must be positive lengths, and one -1 at most, but is {list(self.shape)}")

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return inputs (examples, ...) as (examples, *shape); UserError if the number of elements differs.

        Masked positions are zeros; they stay masked if the positions are the first axes of the shape.
        """
        shape = self.for_inputs(np.shape(x)[1:])
        if scope.mask is not None:
            x, positions = zero_filled(x, scope.mask), scope.mask.shape[1:]
            scope.pass_mask(scope.mask if shape[: len(positions)] == positions else None)
        return reshape(x, shape=(len(x), *shape))

    def for_inputs(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape for inputs of the given one; UserError if the number of elements differs."""
        count, known = math.prod(given), math.prod(length for length in self.shape if length != OTHERS)
        if count != known and (OTHERS not in self.shape or count % known):
            raise UserError(
                f"shape {self.shape} holds {'a multiple of ' * (OTHERS in self.shape)}{known} numbers per example, but "
                f"its inputs have shape {given}, which are {count}"
            )
        return tuple(count // known if length == OTHERS else length for length in self.shape)

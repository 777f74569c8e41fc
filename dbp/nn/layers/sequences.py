"""Layers for sequences (examples, length, ...): embeddings, positions, and multi-head attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Tensor, Value, dense_block, reshape, softmax, take, transpose
from dbp.errors import UserError
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, counts
from dbp.nn.scope import Scope
from dbp.types import Array


@dataclass(frozen=True)
class Embedding:
    """A row of numbers for each of some entries, such as characters or words.

    Inputs (examples, ...) are whole numbers from 0 to entries - 1; outputs (examples, ..., units).
    """

    kind: ClassVar[str] = "embedding"
    entries: int
    units: int
    initializer: str = "normal"

    def __post_init__(self) -> None:
        counts(self, "entries", "units")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The rows of the inputs' numbers."""
        table = scope.parameter("weight", (self.entries, self.units), self.initializer)
        return take(table, index=self._numbers(x))

    def _numbers(self, x: Value) -> Array:
        if type(x) is Tensor:
            raise UserError(
                "takes whole numbers, by which nothing can be differentiated, but a layer before it made floats; "
                "put the embedding first"
            )
        array: Array = np.asarray(x)
        if array.dtype.kind == "f" and self.entries > 2 ** (np.finfo(array.dtype).nmant + 1):
            raise UserError(f"entries must be at most {2 ** (np.finfo(array.dtype).nmant + 1)} in {array.dtype}")
        with np.errstate(invalid="ignore"):  # what is no number is found below
            numbers: Array = array.astype(np.intp)
        wrong = (numbers != array) | (numbers < 0) | (numbers >= self.entries)
        if wrong.any():
            raise UserError(
                f"takes whole numbers from 0 to {self.entries - 1}, but its inputs contain {array[wrong][0]}; "
                "are the inputs scaled, does a layer before it change them, or are entries too few?"
            )
        return numbers


@dataclass(frozen=True)
class Position:
    """Adds to each place of a sequence numbers of its own, which are learned."""

    kind: ClassVar[str] = "position"
    initializer: str = "normal"

    def __post_init__(self) -> None:
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Inputs and outputs (examples, length, channels)."""
        check_axes(x, ("length", "channels"), "put an embedding or a reshape layer in front")
        return x + scope.parameter("weight", np.shape(x)[1:], self.initializer)


@dataclass(frozen=True)
class Attention:
    """Every place gathers from all places, weighted by how well they match (Vaswani et al. 2017, section 3.2).

    Inputs and outputs (examples, length, channels).

    Args:
        heads: of channels / heads numbers each.
        causal: whether a place sees itself and earlier places only.
    """

    kind: ClassVar[str] = "attention"
    heads: int
    causal: bool = False
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        counts(self, "heads")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """What each place gathered, through a last matrix."""
        check_axes(x, ("length", "channels"), "put an embedding or a reshape layer in front")
        n, length, channels = np.shape(x)
        if channels % self.heads:
            raise UserError(
                f"channels must be a multiple of heads ({self.heads}), but its inputs have shape {np.shape(x)[1:]}"
            )
        query, key, value = (self._split(self._project(scope, x, name)) for name in ("query", "key", "value"))
        scores = (query @ transpose(key, axes=(0, 1, 3, 2))) / math.sqrt(channels / self.heads)
        if self.causal:
            scores = scores + _later(length, scores.dtype)
        gathered = transpose(softmax(scores) @ value, axes=(0, 2, 1, 3))
        return self._project(scope, reshape(gathered, shape=(n, length, channels)), "output")

    def _project(self, scope: Scope, x: Value, name: str) -> Value:
        inner, channels = scope.inside(name), np.shape(x)[-1]
        w = inner.parameter("weight", (channels, channels), self.initializer)
        b = inner.parameter("bias", (channels,), "zeros") if self.bias else None
        return inner.neurons(dense_block(x, w, b, relu_after=False))

    def _split(self, x: Value) -> Value:
        """(examples, heads, length, channels / heads)."""
        n, length, channels = np.shape(x)
        return transpose(reshape(x, shape=(n, length, self.heads, channels // self.heads)), axes=(0, 2, 1, 3))


def _later(length: int, dtype: Any) -> Array:
    """What is added to a score: nothing, or for a later place so little that its weight is zero."""
    return np.triu(np.full((length, length), -1e30, dtype), 1)

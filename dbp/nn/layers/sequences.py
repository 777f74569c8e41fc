"""Layers for sequences (examples, length, ...): embedding, learned positions, multi-head attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Tensor, Value, attention_block, concatenate, dense_block, self_attention_block, take
from dbp.errors import UserError
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.masks import zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array

PROJECTIONS = ("query", "key", "value")


@dataclass(frozen=True)
class Embedding:
    """A learned vector for each entry of a vocabulary, such as a character or a word.

    Inputs (examples, ...) are whole numbers from 0 to entries - 1; outputs (examples, ..., units).

    Args:
        entries: of the vocabulary.
        units: numbers of a vector.
        initializer: name of the distribution that vectors are drawn from.
        sparse: whether a step of training changes only the vectors of the entries in its mini-batch, with the
            optimizer's state for them, so that it takes no longer for a larger vocabulary.
    """

    kind: ClassVar[str] = "embedding"
    keeps_positions: ClassVar[bool] = True
    entries: int
    units: int
    initializer: str = "normal"
    sparse: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "entries", "units")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the vectors of the inputs' entries."""
        if type(x) is Tensor:
            raise UserError(
                "takes whole numbers, by which nothing can be differentiated, but a layer before it made floats; "
                "put the embedding first"
            )
        (indices,) = scope.unrecorded(self._indices, zero_filled(x, scope.mask))
        if scope.note_input_check():
            return np.broadcast_to(np.zeros((), np.float32), (*indices.shape, self.units))
        return scope.rows("weight", (self.entries, self.units), indices, self.initializer, scope.mask, self.sparse)

    def _indices(self, array: Array) -> tuple[Array]:
        """Return the inputs as indices; UserError unless they are whole numbers in range."""
        if array.dtype.kind == "f" and self.entries > 2 ** (np.finfo(array.dtype).nmant + 1):
            raise UserError(f"entries must be at most {2 ** (np.finfo(array.dtype).nmant + 1)} in {array.dtype}")
        with np.errstate(invalid="ignore"):  # NaN is found below
            indices: Array = array.astype(np.intp)
        wrong = (indices != array) | (indices < 0) | (indices >= self.entries)
        if wrong.any():
            first = str(array[wrong][0]).removesuffix(".0")
            raise UserError(
                f"takes whole numbers from 0 to {self.entries - 1}, but its inputs contain {first}; "
                "are the inputs scaled, does a layer before it change them, or are entries too few?"
            )
        return (indices,)


@dataclass(frozen=True)
class Position:
    """Learned position embedding: adds a vector of its own to each position of a sequence.

    Inputs and outputs (examples, length, channels).

    Args:
        initializer: name of the distribution that vectors are drawn from.
        length: number of positions that have a vector, for sequences of unequal length; None for that of the inputs.
    """

    kind: ClassVar[str] = "position"
    keeps_positions: ClassVar[bool] = True
    initializer: str = "normal"
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None:
            check_counts(self, "length")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape (examples, length, channels)."""
        check_axes(x, ("length", "channels"), "put an embedding or a reshape layer in front")
        length, channels = np.shape(x)[1:]
        if self.length is None and scope.mask is not None:
            raise UserError(
                "length must be set for inputs with masked positions, as others may be longer; set it to that of the "
                f"longest, such as {length}"
            )
        if self.length is None:
            return x + scope.parameter("weight", (length, channels), self.initializer)
        if length > self.length:
            raise UserError(f"length must be at least that of its inputs, which is {length}, but is {self.length}")
        return x + take(scope.parameter("weight", (self.length, channels), self.initializer), index=slice(0, length))


@dataclass(frozen=True)
class Attention:
    """Multi-head attention (Vaswani et al. 2017, section 3.2): of a sequence to itself, or of one to another.

    Inputs (examples, length, channels) attend to themselves. A pair (queries, memory) makes cross attention: queries
    (examples, length, channels) attend to memory (examples, positions, numbers). Outputs have the shape of the inputs
    or queries. No position attends to a masked one, be it of the inputs or of the memory.

    Args:
        heads: number of heads, each of channels / heads channels.
        causal: whether a position attends only to itself and to earlier ones, those of a memory by their number.
        initializer: of the four matrices, (channels, channels), or (numbers, channels) for the keys and values of a
            memory.
        bias: whether to add biases after them.
    """

    kind: ClassVar[str] = "attention"
    takes_several: ClassVar[bool] = True
    heads: int
    causal: bool = False
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "heads")
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value | tuple[Value, Value]) -> Value:
        """Return the attended values, projected by the output matrix.

        Raises:
            UserError: a pair comes with one mask; give scope.inside(name, mask=(of the queries, of the memory)).
        """
        queries, memory = pair = _pair(x)
        for one in pair:
            check_axes(one, ("length", "channels"), "put an embedding or a reshape layer in front")
        channels = np.shape(queries)[-1]
        if channels % self.heads:
            shape = np.shape(queries)[1:]
            raise UserError(f"channels must be a multiple of heads ({self.heads}), but its inputs have shape {shape}")
        of_queries, of_memory = _masks(scope, x)
        is_one = queries is memory and of_queries is of_memory
        queries = zero_filled(queries, of_queries)
        options = {"heads": self.heads, "causal": self.causal, "mask": of_memory}
        if is_one and not scope.records_neurons:
            gathered = self_attention_block(self._project_together(scope, queries, channels), **options)
        else:
            memory = queries if is_one else zero_filled(memory, of_memory)
            query = self._project(scope, queries, "query", channels, of_queries)
            key, value = (self._project(scope, memory, name, channels, of_memory) for name in ("key", "value"))
            gathered = attention_block(query, key, value, **options)
        scope.pass_mask(of_queries)
        return self._project(scope, gathered, "output", channels, of_queries)

    def _parameters(self, scope: Scope, x: Value, channels: int) -> tuple[Value, Value | None]:
        """Return the matrix and the bias of a projection, in its scope."""
        w = scope.parameter("weight", (np.shape(x)[-1], channels), self.initializer)
        return w, scope.parameter("bias", (channels,), "zeros") if self.bias else None

    def _project(self, scope: Scope, x: Value, name: str, channels: int, mask: Array | None) -> Value:
        inner = scope.inside(name, mask)
        return inner.neurons(dense_block(x, *self._parameters(inner, x, channels), activation="linear"))

    def _project_together(self, scope: Scope, x: Value, channels: int) -> Value:
        """Return queries, keys and values side by side, by one product, which is faster than three."""
        weights, biases = zip(*(self._parameters(scope.inside(name), x, channels) for name in PROJECTIONS), strict=True)
        bias = concatenate(*biases) if self.bias else None
        return dense_block(x, concatenate(*weights, axis=1), bias, activation="linear")


def _pair(x: Value | tuple[Value, ...]) -> tuple[Value, Value]:
    """Return queries and memory, which are the same for one value; UserError for more than two."""
    if not isinstance(x, tuple):
        return x, x
    if len(x) != 2:
        raise UserError(f"takes one value, or two, the queries and the memory that they attend to, but gets {len(x)}")
    return x


def _masks(scope: Scope, x: Value | tuple[Value, Value]) -> tuple[Array | None, Array | None]:
    """Return the masks of queries and memory; UserError if there is only one for both."""
    if not isinstance(x, tuple):
        mask = scope.mask_of(x)
        return mask, mask
    if scope.mask is None:
        return None, None
    if not isinstance(scope.masks, tuple):
        raise UserError(
            "takes queries and memory, but the mask does not say of which it is; call it in "
            "scope.inside(name, mask=(of the queries, of the memory)), with None for one that has no mask"
        )
    of_queries, of_memory = (scope.inside("", mask).mask_of(one) for one, mask in zip(x, scope.masks, strict=True))
    return of_queries, of_memory

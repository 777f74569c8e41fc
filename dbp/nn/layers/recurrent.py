"""Recurrent layers: GRU and LSTM, stacked and in both directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, concatenate, dense_block, sigmoid, stack, take, tanh, where
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.masks import zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array


@dataclass(frozen=True)
class _Recurrent(ABC):
    """Settings of a recurrent layer, which each such layer describes.

    The state is held at masked positions, so that the last state is that of the last valid position, or of the first
    one in a backward pass over the sequence.
    """

    units: int
    sequences: bool = True
    initializer: str = "glorot_uniform"
    recurrent_initializer: str = "orthogonal"
    layers: int = 1
    bidirectional: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "units", "layers")
        initializer(self.initializer)
        initializer(self.recurrent_initializer)

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Return for each of the stacked layers the paths of its parameters, one for each direction.

        The path is empty for one layer of one direction.
        """
        stacked = [f"layer_{number}" for number in range(1, self.layers + 1)] if self.layers > 1 else [""]
        directions = ("forward", "backward") if self.bidirectional else ("",)
        return tuple(tuple("/".join(filter(None, (one, way))) for way in directions) for one in stacked)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the states of the last stacked layer, those of both directions side by side."""
        check_axes(x, ("length", "channels"), "put an embedding or a reshape layer in front")
        x = zero_filled(x, scope.mask_of(x))
        for number, paths in enumerate(self.paths, start=1):
            sequences = self.sequences or number < self.layers
            ways = [self._way(scope.inside(p) if p else scope, x, bool(k), sequences) for k, p in enumerate(paths)]
            x = concatenate(*ways, axis=-1) if self.bidirectional else ways[0]
        scope.pass_mask(scope.mask if self.sequences else None)
        return x

    def _way(self, scope: Scope, x: Value, backward: bool, sequences: bool) -> Value:
        """Return the states of one direction at all positions, or the one that it ends with."""
        n, length, _ = np.shape(x)
        states, first = self._states(scope, x, range(length)[::-1] if backward else range(length))
        if not sequences:
            return states[-1] if states else first
        if not states:
            return np.zeros((n, 0, self.units), first.dtype)
        return stack(states[::-1] if backward else states, axis=1)

    @abstractmethod
    def _states(self, scope: Scope, x: Value, order: Iterable[int]) -> tuple[list[Value], Array]:
        """Return the states after each of the positions in this order, and the one before them."""

    def _read(self, scope: Scope, x: Value, gates: int) -> tuple[list[Value], Value, Array]:
        """Return the gates' weighted inputs at every position, the matrix applied to the state, and the first state."""
        n, length, channels = np.shape(x)
        w = scope.parameter("weight", (channels, gates * self.units), self.initializer)
        z = dense_block(x, w, scope.parameter("bias", (gates * self.units,), "zeros"), activation="linear")
        u = scope.parameter("recurrent", (self.units, gates * self.units), self.recurrent_initializer)
        positions = [take(z, index=(slice(None), t)) for t in range(length)]
        return positions, u, np.zeros((n, self.units), array_of(z).dtype)

    def _gate(self, z: Value, number: int) -> Value:
        return take(z, index=(slice(None), slice(number * self.units, (number + 1) * self.units)))


def _valid(scope: Scope, position: int) -> Array | None:
    """Return for each example whether a position holds data; None if it does for all."""
    return None if scope.mask is None else scope.mask[:, position]


def _held(scope: Scope, position: int, new: Value, before: Value) -> Value:
    """Return the new state, and the one before where the position of an example is masked."""
    valid = _valid(scope, position)
    return new if valid is None or valid.all() else where(valid[:, None], new, before)


@dataclass(frozen=True)
class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014), with the reset gate applied after the product with the state.

    r, u, c are the gates reset, update and candidate, in this order in the matrices:
    c = tanh(x W_c + b_c + r (h U_c + d));  h = (1 - u) c + u h.

    Inputs (examples, length, channels); outputs (examples, length, units), or (examples, units); twice as many units
    in both directions.

    Args:
        units: size of the state.
        sequences: whether to return the state at every position, or the one that each direction ends with.
        initializer: name of the distribution of the matrices for inputs.
        recurrent_initializer: name of the distribution of the matrices for states.
        layers: how many such layers are stacked, each of which reads the states of the one before.
        bidirectional: whether to read the sequence backward too (Schuster and Paliwal 1997), with parameters of its
            own, and to return the states of both directions side by side.
    """

    kind: ClassVar[str] = "gru"

    def _states(self, scope: Scope, x: Value, order: Iterable[int]) -> tuple[list[Value], Array]:
        """Return the states after each position, and the one before them."""
        positions, matrix, first = self._read(scope, x, gates=3)
        shift = scope.parameter("candidate_bias", (self.units,), "zeros")
        h: Value = first
        states: list[Value] = []
        for position in order:
            z, inner = positions[position], h @ matrix
            reset = sigmoid(self._gate(z, 0) + self._gate(inner, 0))
            update = sigmoid(self._gate(z, 1) + self._gate(inner, 1))
            weighted = self._gate(z, 2) + reset * (self._gate(inner, 2) + shift)
            candidate = scope.neurons(weighted, tanh, _valid(scope, position))
            h = _held(scope, position, candidate * (1 - update) + update * h, h)
            states.append(h)
        return states, first


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    i, f, c, o are the gates input, forget, candidate and output, in this order in the matrices:
    m = f m + i tanh(c);  h = o tanh(m).

    Inputs (examples, length, channels); outputs (examples, length, units), or (examples, units); twice as many units
    in both directions.

    Args:
        units: size of the state.
        sequences: whether to return the state at every position, or the one that each direction ends with.
        initializer: name of the distribution of the matrices for inputs.
        recurrent_initializer: name of the distribution of the matrices for states.
        layers: how many such layers are stacked, each of which reads the states of the one before.
        bidirectional: whether to read the sequence backward too (Schuster and Paliwal 1997), with parameters of its
            own, and to return the states of both directions side by side.
    """

    kind: ClassVar[str] = "lstm"

    def _states(self, scope: Scope, x: Value, order: Iterable[int]) -> tuple[list[Value], Array]:
        """Return the states after each position, and the one before them."""
        positions, matrix, first = self._read(scope, x, gates=4)
        h: Value = first
        memory: Value = first
        states: list[Value] = []
        for position in order:
            gates = positions[position] + h @ matrix
            let_in, keep, show = (sigmoid(self._gate(gates, k)) for k in (0, 1, 3))
            candidate = scope.neurons(self._gate(gates, 2), tanh, _valid(scope, position))
            memory = _held(scope, position, keep * memory + let_in * candidate, memory)
            h = _held(scope, position, show * tanh(memory), h)
            states.append(h)
        return states, first

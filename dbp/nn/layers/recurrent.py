"""Recurrent layers: GRU and LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, dense_block, sigmoid, stack, take, tanh, where
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.masks import zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array


@dataclass(frozen=True)
class _Recurrent:
    """Settings of a recurrent layer, which each such layer describes.

    The state is held at masked positions, so that the last state is that of the last valid position.
    """

    units: int
    sequences: bool = True
    initializer: str = "glorot_uniform"
    recurrent_initializer: str = "orthogonal"

    def __post_init__(self) -> None:
        check_counts(self, "units")
        initializer(self.initializer)
        initializer(self.recurrent_initializer)

    def _read(self, scope: Scope, x: Value, gates: int) -> tuple[list[Value], Value, Value]:
        """Return the gates' weighted inputs at every position, the matrix applied to the state, and the first state."""
        check_axes(x, ("length", "channels"), "put an embedding or a reshape layer in front")
        x = zero_filled(x, scope.mask_of(x))
        n, length, channels = np.shape(x)
        w = scope.parameter("weight", (channels, gates * self.units), self.initializer)
        z = dense_block(x, w, scope.parameter("bias", (gates * self.units,), "zeros"), relu_after=False)
        u = scope.parameter("recurrent", (self.units, gates * self.units), self.recurrent_initializer)
        positions = [take(z, index=(slice(None), t)) for t in range(length)]
        return positions, u, np.zeros((n, self.units), array_of(z).dtype)

    def _gate(self, z: Value, number: int) -> Value:
        return take(z, index=(slice(None), slice(number * self.units, (number + 1) * self.units)))

    def _outputs(self, scope: Scope, states: list[Value], first: Value) -> Value:
        """Return the states, or the last one, given the states at all positions and the one before them."""
        scope.pass_mask(scope.mask if self.sequences else None)
        if not self.sequences:
            return states[-1] if states else first
        return stack(states, axis=1) if states else np.zeros((len(first), 0, self.units), first.dtype)


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

    Inputs (examples, length, channels); outputs (examples, length, units), or (examples, units).

    Args:
        units: size of the state.
        sequences: whether to return the state at every position, or at the last one only.
        initializer: name of the distribution of the matrices for inputs.
        recurrent_initializer: name of the distribution of the matrices for states.
    """

    kind: ClassVar[str] = "gru"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the states."""
        positions, matrix, h = self._read(scope, x, gates=3)
        shift = scope.parameter("candidate_bias", (self.units,), "zeros")
        first, states = h, []
        for position, z in enumerate(positions):
            inner = h @ matrix
            reset = sigmoid(self._gate(z, 0) + self._gate(inner, 0))
            update = sigmoid(self._gate(z, 1) + self._gate(inner, 1))
            weighted = self._gate(z, 2) + reset * (self._gate(inner, 2) + shift)
            candidate = scope.neurons(weighted, tanh, _valid(scope, position))
            h = _held(scope, position, candidate * (1 - update) + update * h, h)
            states.append(h)
        return self._outputs(scope, states, first)


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    i, f, c, o are the gates input, forget, candidate and output, in this order in the matrices:
    m = f m + i tanh(c);  h = o tanh(m).

    Inputs (examples, length, channels); outputs (examples, length, units), or (examples, units).

    Args:
        units: size of the state.
        sequences: whether to return the state at every position, or at the last one only.
        initializer: name of the distribution of the matrices for inputs.
        recurrent_initializer: name of the distribution of the matrices for states.
    """

    kind: ClassVar[str] = "lstm"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the states."""
        positions, matrix, h = self._read(scope, x, gates=4)
        first, memory, states = h, h, []
        for position, z in enumerate(positions):
            gates = z + h @ matrix
            let_in, keep, show = (sigmoid(self._gate(gates, k)) for k in (0, 1, 3))
            candidate = scope.neurons(self._gate(gates, 2), tanh, _valid(scope, position))
            memory = _held(scope, position, keep * memory + let_in * candidate, memory)
            h = _held(scope, position, show * tanh(memory), h)
            states.append(h)
        return self._outputs(scope, states, first)

"""Recurrent layers: GRU and LSTM, stacked and in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Block, Value, concatenate, gru_block, gru_by_position, lstm_block, lstm_by_position
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.masks import zero_filled
from dbp.nn.scope import Scope


@dataclass(frozen=True)
class _Recurrent:
    """Settings of a recurrent layer, which each such layer describes.

    The state is held at masked positions, so that the last state is that of the last valid position, or of the first
    one in a backward pass over the sequence.
    """

    gates: ClassVar[int]  # matrices side by side in each of both
    block: ClassVar[Block]
    by_position: ClassVar[Callable[..., Value]]  # the specification of the block, which marks neurons too
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
        parameters, settings = self._parameters(scope, np.shape(x)[2]), {"backward": backward, "sequences": sequences}
        if scope.records_neurons:
            return type(self).by_position(x, *parameters, mask=scope.mask, neurons=scope.neurons, **settings)
        return self.block(x, *parameters, mask=scope.mask, **settings)

    def _parameters(self, scope: Scope, channels: int) -> list[Value]:
        """Return the parameters in the order in which the block takes them."""
        return [
            scope.parameter("weight", (channels, self.gates * self.units), self.initializer),
            scope.parameter("bias", (self.gates * self.units,), "zeros"),
            scope.parameter("recurrent", (self.units, self.gates * self.units), self.recurrent_initializer),
        ]


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
    gates: ClassVar[int] = 3
    block: ClassVar[Block] = gru_block
    by_position: ClassVar[Callable[..., Value]] = staticmethod(gru_by_position)

    def _parameters(self, scope: Scope, channels: int) -> list[Value]:
        """Return the parameters in the order in which the block takes them."""
        return [*super()._parameters(scope, channels), scope.parameter("candidate_bias", (self.units,), "zeros")]


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
    gates: ClassVar[int] = 4
    block: ClassVar[Block] = lstm_block
    by_position: ClassVar[Callable[..., Value]] = staticmethod(lstm_by_position)

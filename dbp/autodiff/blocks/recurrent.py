"""Blocks for recurrent layers over whole sequences: GRU and LSTM.

The specifications go from position to position with primitives, in either direction. The state is held at masked
positions, so that the last state is that of the last valid position, or of the first one in a pass from the end to the
beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.dense import dense_block
from dbp.autodiff.blocks.recurrent_gru import gru_backward, gru_forward, gru_tangent
from dbp.autodiff.blocks.recurrent_lstm import lstm_backward, lstm_forward, lstm_tangent
from dbp.autodiff.primitives import sigmoid, stack, take, tanh, where
from dbp.autodiff.tensor import Value, array_of
from dbp.types import Array

Neurons = Callable[[Value, Callable[[Value], Value], Array | None], Value]
State = tuple[Value, ...]  # the output of a position, and what else the next position takes


def _activated(z: Value, activation: Callable[[Value], Value], _valid: Array | None) -> Value:
    return activation(z)


def gru_by_position(
    x: Value,
    weight: Value,
    bias: Value,
    recurrent: Value,
    candidate_bias: Value,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
    neurons: Neurons = _activated,
) -> Value:
    """Return the states of a GRU, (examples, length, units), or the one that it ends with, (examples, units).

    r, u, c are the gates reset, update and candidate, in this order in the matrices:
    c = tanh(x W_c + b_c + r (h U_c + d));  h = (1 - u) c + u h.

    Args:
        x: inputs (examples, length, channels).
        weight: W, (channels, 3 units).
        bias: b, (3 units,).
        recurrent: U, (units, 3 units).
        candidate_bias: d, (units,).
        mask: which positions hold data, (examples, length); None if all do.
        backward: whether to go from the last position to the first.
        sequences: whether to return the state at every position.
        neurons: returns activation(z), given the candidate's weighted sums z, the activation, and for which examples
            the position holds data; None for all.
    """
    units = np.shape(recurrent)[0]
    positions, start = _weighted_inputs(x, weight, bias, units)

    def step(position: int, valid: Array | None, h: Value) -> State:
        z, inner = positions[position], h @ recurrent
        reset, update = (sigmoid(_gate(z, k, units) + _gate(inner, k, units)) for k in (0, 1))
        candidate = neurons(_gate(z, 2, units) + reset * (_gate(inner, 2, units) + candidate_bias), tanh, valid)
        return (candidate * (1 - update) + update * h,)

    return _states(step, (start,), len(positions), mask, backward, sequences)


def lstm_by_position(
    x: Value,
    weight: Value,
    bias: Value,
    recurrent: Value,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
    neurons: Neurons = _activated,
) -> Value:
    """Return the states of an LSTM, (examples, length, units), or the one that it ends with, (examples, units).

    i, f, c, o are the gates input, forget, candidate and output, in this order in the matrices:
    m = f m + i tanh(c);  h = o tanh(m).

    Args: as of gru_by_position(), with matrices of 4 units.
    """
    units = np.shape(recurrent)[0]
    positions, start = _weighted_inputs(x, weight, bias, units)

    def step(position: int, valid: Array | None, h: Value, memory: Value) -> State:
        gates = positions[position] + h @ recurrent
        let_in, keep, show = (sigmoid(_gate(gates, k, units)) for k in (0, 1, 3))
        candidate = neurons(_gate(gates, 2, units), tanh, valid)
        memory = keep * memory + let_in * candidate
        return show * tanh(memory), memory

    return _states(step, (start, start), len(positions), mask, backward, sequences)


def _weighted_inputs(x: Value, weight: Value, bias: Value, units: int) -> tuple[list[Value], Array]:
    """Return the gates' weighted inputs at every position, and a state of zeros."""
    z = dense_block(x, weight, bias, activation="linear")
    positions = [take(z, index=(slice(None), t)) for t in range(np.shape(x)[1])]
    return positions, np.zeros((len(x), units), array_of(z).dtype)


def _gate(z: Value, number: int, units: int) -> Value:
    return take(z, index=(slice(None), slice(number * units, (number + 1) * units)))


def _states(
    step: Callable[..., State], state: State, length: int, mask: Array | None, backward: bool, sequences: bool
) -> Value:
    """Return the outputs of all positions, or the last one, given the state in front of the first position."""
    outputs: list[Value] = []
    for position in reversed(range(length)) if backward else range(length):
        valid = None if mask is None else mask[:, position]
        after = step(position, valid, *state)
        if valid is not None and not valid.all():
            after = tuple(where(valid[:, None], new, old) for new, old in zip(after, state, strict=True))
        state = after
        outputs.append(state[0])
    if not sequences:
        return state[0]
    if not outputs:
        start = array_of(state[0])
        return np.zeros((len(start), 0, start.shape[1]), start.dtype)
    return stack(outputs[::-1] if backward else outputs, axis=1)


def _alone(forward: Callable[..., tuple[Array, Any]]) -> Callable[..., Array]:
    """Return the forward pass of which nothing is kept."""
    return lambda *arrays, **options: forward(*arrays, inference=True, **options)[0]


gru_block = Block("gru_block", gru_by_position, gru_forward, gru_backward, gru_tangent, _alone(gru_forward))
lstm_block = Block("lstm_block", lstm_by_position, lstm_forward, lstm_backward, lstm_tangent, _alone(lstm_forward))

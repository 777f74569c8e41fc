"""The fast version of an LSTM over whole sequences, and its derivative; see recurrent_sequence.py for its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff.blocks.column_blocks import column_blocks, product
from dbp.autodiff.blocks.recurrent_sequence import (
    by_outputs,
    by_recurrent,
    by_weighted_inputs,
    in_order,
    rows_apart,
    tangent_of_inputs,
    tangent_of_states,
    valid_examples,
    weighted_inputs,
)
from dbp.autodiff.primitives.shapes import of_one_type
from dbp.autodiff.tensor import OutputSlot
from dbp.types import Array

GATES = 4  # input, forget, candidate, output


class Kept(NamedTuple):
    """Arrays of a pass, the positions first; for outputs alone there is one position of each, and two of the memories.

    Args:
        states: the outputs (examples, length, units), in the order of the pass.
        gates: activations of the gates, (length, GATES, examples, units).
        memories: memory before each position and after the last one, (length + 1, examples, units).
        squashed: tanh of the memory after each position, (length, examples, units).
    """

    states: Array
    gates: Array
    memories: Array
    squashed: Array

    @classmethod
    def empty(cls, states: Array, positions: int) -> Kept:
        """Return arrays for a number of positions, beside that of the states, and zeros for the first memory."""
        shape = states.shape[0], states.shape[2]
        memories = np.empty((positions + 1, *shape), states.dtype)
        memories[0] = 0
        gates = np.empty((positions, GATES, *shape), states.dtype)
        return cls(states, gates, memories, np.empty((positions, *shape), states.dtype))


def lstm_forward(
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
    inference: bool = False,
) -> tuple[Array, Kept]:
    """Return the states, and what the derivative takes; see lstm_by_position()."""
    x, weight, bias, recurrent = of_one_type(x, weight, bias, recurrent)
    length, n = x.shape[1], len(x)
    positions = min(1, length) if inference else length
    outputs = np.empty((n, length if sequences else positions, len(recurrent)), x.dtype)
    kept = Kept.empty(in_order(outputs, backward), positions)
    z = weighted_inputs(in_order(x, backward), weight, bias, GATES)
    last = _pass(z, recurrent, valid_examples(mask, length, backward), kept)
    return outputs if sequences else last, kept


def _pass(z: Iterator[Array], recurrent: Array, valid: list[Any], kept: Kept) -> Array:
    """Go through the positions; return the last state.

    Args:
        z: the weighted inputs of each position, (GATES, examples, units).
        recurrent: U.
        valid: for each position, which examples have data there.
        kept: is filled.
    """
    n, units = kept.memories.shape[1:]
    blocks, part = column_blocks(recurrent, n, GATES), np.empty((n, units), recurrent.dtype)
    h = np.zeros_like(part)
    for t, weighted in enumerate(z):
        gates, squashed = kept.gates[t % len(kept.gates)], kept.squashed[t % len(kept.squashed)]
        before, after = kept.memories[t % len(kept.memories)], kept.memories[(t + 1) % len(kept.memories)]
        product(h, blocks, gates)
        gates += weighted
        _activate(gates)
        let_in, keep, candidate, show = gates
        np.multiply(keep, before, out=after)
        after += np.multiply(let_in, candidate, out=part)
        if valid[t] is not True:
            np.copyto(after, before, where=~valid[t])
        np.multiply(show, np.tanh(after, out=squashed), out=h, where=valid[t])
        kept.states[:, t % kept.states.shape[1]] = h
    return h


def _activate(gates: Array) -> None:
    """Replace the weighted sums by tanh of the candidate's and sigmoid of the others."""
    sigmoids = gates[:2], gates[3]  # sigmoid(z) = tanh(z / 2) / 2 + 1 / 2
    for some in sigmoids:
        some *= 0.5
    np.tanh(gates, out=gates)
    for some in sigmoids:
        some *= 0.5
        some += 0.5


def lstm_backward(
    g: Array,
    _y: Array,
    kept: Kept,
    wanted: Sequence[bool],
    slots: Sequence[OutputSlot | None],
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
) -> Sequence[Array | None]:
    """Return the cotangents of the wanted inputs, given that of the states."""
    x, weight, _, recurrent = of_one_type(x, weight, bias, recurrent)
    n, length, _ = x.shape
    by_z = rows_apart(n, length, GATES * len(recurrent), x.dtype)
    of_outputs, valid = by_outputs(g, length, sequences, backward), valid_examples(mask, length, backward)
    _pass_back(of_outputs, recurrent, valid, kept, in_order(by_z, backward))
    by_u = by_recurrent(kept.states, by_z, slots[3], backward) if wanted[3] else None
    return *by_weighted_inputs(x, weight, by_z, wanted, slots), by_u


def _pass_back(g: list[Array | None], recurrent: Array, valid: list[Any], kept: Kept, by_z: Array) -> None:
    """Go through the positions from the last to the first.

    Args:
        g: the cotangent of each position's output, (examples, units); None for zeros.
        recurrent: U.
        valid: for each position, which examples have data there.
        kept: of the pass.
        by_z: is filled with the cotangents of the weighted sums, (examples, length, GATES x units), in the order of
            the pass.
    """
    n, units = kept.memories.shape[1:]
    blocks = column_blocks(recurrent.T, n)
    by_h, by_memory = np.zeros((2, n, units), by_z.dtype)
    slopes, by_gates = np.empty((2, GATES, n, units), by_z.dtype)
    part = np.empty((n, units), by_z.dtype)
    for t in reversed(range(len(g))):
        (let_in, keep, candidate, show), before, squashed = kept.gates[t], kept.memories[t], kept.squashed[t]
        if g[t] is not None:
            by_h += g[t]
        by_show = np.multiply(by_h, squashed, out=by_gates[3])
        np.subtract(by_h, np.multiply(by_show, squashed, out=part), out=part)  # through tanh
        part *= show
        np.add(by_memory, part, out=by_memory, where=valid[t])
        np.multiply(by_memory, candidate, out=by_gates[0])
        np.multiply(by_memory, before, out=by_gates[1])
        np.multiply(by_memory, let_in, out=by_gates[2])
        by_gates *= _slopes(kept.gates[t], slopes)
        np.multiply(by_memory, keep, out=by_memory, where=valid[t])
        if valid[t] is not True:
            np.copyto(by_gates, 0, where=~valid[t])
        by_z[:, t].reshape(n, GATES, units)[:] = by_gates.swapaxes(0, 1)
        if t:
            np.copyto(by_h, product(by_z[:, t], blocks, part[None])[0], where=valid[t])


def _slopes(gates: Array, out: Array) -> Array:
    """Return the derivatives of the gates' activations, y (1 - y), and 1 - y^2 for the candidate."""
    np.multiply(gates, gates, out=out)
    np.subtract(gates[:2], out[:2], out=out[:2])
    np.subtract(1, out[2], out=out[2])
    np.subtract(gates[3], out[3], out=out[3])
    return out


def lstm_tangent(
    tangents: Sequence[Array | None],
    _y: Array,
    kept: Kept,
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
) -> Array:
    """Return the tangent of the states for tangents of x, W, b and U, None for one that has none."""
    x, weight, _, recurrent = of_one_type(x, weight, bias, recurrent)
    tx, tw, tb, tu = tangents
    of_inputs = tangent_of_inputs((tx, tw, tb), in_order(x, backward), weight, GATES, backward)
    of_states = tangent_of_states(tu, kept.states, GATES)
    th, tm = np.zeros((2, *kept.memories.shape[1:]), x.dtype)
    found, slopes = np.empty_like(kept.states), np.empty(kept.gates.shape[1:], x.dtype)
    blocks = column_blocks(recurrent, len(x), GATES)
    for t, valid in enumerate(valid_examples(mask, x.shape[1], backward)):
        (let_in, keep, candidate, show), before, squashed = kept.gates[t], kept.memories[t], kept.squashed[t]
        sums = product(th, blocks, np.empty_like(slopes)) + of_inputs[t] + of_states[t]
        t_in, t_keep, t_candidate, t_show = sums * _slopes(kept.gates[t], slopes)
        now = keep * tm + before * t_keep + let_in * t_candidate + candidate * t_in
        np.copyto(tm, now, where=valid)
        np.copyto(th, t_show * squashed + show * (1 - squashed * squashed) * tm, where=valid)
        found[:, t] = th
    outcome: Array = in_order(found, backward) if sequences else th
    return outcome

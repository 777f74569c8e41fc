"""The fast version of a GRU over whole sequences, and its derivative; see recurrent_sequence.py for its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff.blocks.column_blocks import column_blocks, product
from dbp.autodiff.blocks.recurrent_sequence import (
    by_bias,
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

GATES = 3  # reset, update, candidate


class Kept(NamedTuple):
    """Arrays of a pass, the positions first; for outputs alone there is one position of each.

    Args:
        states: the outputs (examples, length, units), in the order of the pass.
        gates: activations of the gates, (length, GATES, examples, units).
        inner: the candidate's weighted states, with their bias, (length, examples, units).
    """

    states: Array
    gates: Array
    inner: Array

    @classmethod
    def empty(cls, states: Array, positions: int) -> Kept:
        """Return arrays for a number of positions, beside that of the states."""
        shape = states.shape[0], states.shape[2]
        return cls(states, *(np.empty((positions, *axes), states.dtype) for axes in ((GATES, *shape), shape)))

    def step(self, t: int, out: Array) -> Array:
        """Return the state before a position less the candidate, written to `out`."""
        before = self.states[:, t - 1] if t else 0
        return np.asarray(np.subtract(before, self.gates[t, 2], out=out))


def gru_forward(
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    candidate_bias: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
    inference: bool = False,
) -> tuple[Array, Kept]:
    """Return the states, and what the derivative takes; see gru_by_position()."""
    x, weight, bias, recurrent, candidate_bias = of_one_type(x, weight, bias, recurrent, candidate_bias)
    length, n = x.shape[1], len(x)
    positions = min(1, length) if inference else length
    outputs = np.empty((n, length if sequences else positions, len(recurrent)), x.dtype)
    kept = Kept.empty(in_order(outputs, backward), positions)
    z = weighted_inputs(in_order(x, backward), weight, bias, GATES)
    last = _pass(z, recurrent, candidate_bias, valid_examples(mask, length, backward), kept)
    return outputs if sequences else last, kept


def _pass(z: Iterator[Array], recurrent: Array, candidate_bias: Array, valid: list[Any], kept: Kept) -> Array:
    """Go through the positions; return the last state.

    Args:
        z: the weighted inputs of each position, (GATES, examples, units).
        recurrent: U.
        candidate_bias: d.
        valid: for each position, which examples have data there.
        kept: is filled.
    """
    n, units = kept.inner.shape[1:]
    blocks, sums = column_blocks(recurrent, n, GATES), np.empty((GATES, n, units), recurrent.dtype)
    h: Array = np.zeros((n, units), recurrent.dtype)
    for t, weighted in enumerate(z):
        gates, inner = (array[t % len(array)] for array in (kept.gates, kept.inner))
        product(h, blocks, sums)
        both = np.add(sums[:2], weighted[:2], out=gates[:2])  # sigmoid(z) = tanh(z / 2) / 2 + 1 / 2
        both *= 0.5
        np.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        reset, update, candidate = gates
        np.multiply(reset, np.add(sums[2], candidate_bias, out=inner), out=candidate)
        candidate += weighted[2]
        np.tanh(candidate, out=candidate)
        step = np.subtract(h, candidate, out=sums[2])
        step *= update
        np.add(candidate, step, out=h, where=valid[t])
        kept.states[:, t % kept.states.shape[1]] = h
    return h


def gru_backward(
    g: Array,
    _y: Array,
    kept: Kept,
    wanted: Sequence[bool],
    slots: Sequence[OutputSlot | None],
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    candidate_bias: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
) -> Sequence[Array | None]:
    """Return the cotangents of the wanted inputs, given that of the states."""
    x, weight, _, recurrent, _ = of_one_type(x, weight, bias, recurrent, candidate_bias)
    n, length, _ = x.shape
    by_z = rows_apart(n, length, GATES * len(recurrent), x.dtype)
    of_outputs, valid = by_outputs(g, length, sequences, backward), valid_examples(mask, length, backward)
    _pass_back(of_outputs, recurrent, valid, kept, in_order(by_z, backward))
    by_inputs = by_weighted_inputs(x, weight, by_z, wanted, slots)
    by_inner, reset = by_z[..., 2 * len(recurrent) :], in_order(kept.gates[:, 0].swapaxes(0, 1), backward)
    np.multiply(by_inner, reset, out=by_inner, where=True if mask is None else mask[..., None])
    by_u = by_recurrent(kept.states, by_z, slots[3], backward) if wanted[3] else None
    return *by_inputs, by_u, by_bias(by_inner, slots[4]) if wanted[4] else None


def _pass_back(g: list[Array | None], recurrent: Array, valid: list[Any], kept: Kept, by_z: Array) -> None:
    """Go through the positions from the last to the first.

    Args:
        g: the cotangent of each position's output, (examples, units); None for zeros.
        recurrent: U.
        valid: for each position, which examples have data there.
        kept: of the pass.
        by_z: is filled with the cotangents of the weighted inputs, (examples, length, GATES x units), in the order of
            the pass.
    """
    n, units = kept.inner.shape[1:]
    blocks = column_blocks(recurrent.T, n)
    by_h, through, part = np.zeros((3, n, units), by_z.dtype)
    slopes, by_gates = np.empty((2, n, units), by_z.dtype), np.empty((GATES + 1, n, units), by_z.dtype)
    by_both, by_sums, by_candidate = by_gates[:2], by_gates[:GATES], by_gates[3]
    for t in reversed(range(len(g))):
        both, (reset, update, candidate) = kept.gates[t, :2], kept.gates[t]
        if g[t] is not None:
            by_h += g[t]
        np.multiply(by_h, update, out=through)
        np.subtract(by_h, through, out=by_candidate)
        by_candidate *= np.subtract(1, np.multiply(candidate, candidate, out=part), out=part)
        np.multiply(by_candidate, kept.inner[t], out=by_gates[0])
        np.multiply(by_h, kept.step(t, part), out=by_gates[1])
        by_both *= np.subtract(both, np.multiply(both, both, out=slopes), out=slopes)
        np.multiply(by_candidate, reset, out=by_gates[2])
        if valid[t] is not True:
            np.copyto(by_gates, 0, where=~valid[t])
        by_position = by_z[:, t].reshape(n, GATES, units)
        by_position[:] = by_sums.swapaxes(0, 1)
        if t:
            product(by_z[:, t], blocks, part[None])
            np.add(through, part, out=by_h, where=valid[t])
        by_position[:, 2] = by_candidate


def gru_tangent(
    tangents: Sequence[Array | None],
    _y: Array,
    kept: Kept,
    x: Array,
    weight: Array,
    bias: Array,
    recurrent: Array,
    candidate_bias: Array,
    mask: Array | None = None,
    backward: bool = False,
    sequences: bool = True,
) -> Array:
    """Return the tangent of the states for tangents of x, W, b, U and d, None for one that has none."""
    x, weight, _, recurrent, _ = of_one_type(x, weight, bias, recurrent, candidate_bias)
    tx, tw, tb, tu, td = tangents
    of_inputs = tangent_of_inputs((tx, tw, tb), in_order(x, backward), weight, GATES, backward)
    of_states = tangent_of_states(tu, kept.states, GATES)
    th, step = np.zeros((2, *kept.inner.shape[1:]), x.dtype)
    found, blocks = np.empty_like(kept.states), column_blocks(recurrent, len(x), GATES)
    for t, valid in enumerate(valid_examples(mask, x.shape[1], backward)):
        both, (reset, update, candidate) = kept.gates[t, :2], kept.gates[t]
        inner, weighted = product(th, blocks, np.empty_like(of_states[t])) + of_states[t], of_inputs[t]
        if td is not None:
            inner[2] += td
        t_reset, t_update = (weighted[:2] + inner[:2]) * (both - both * both)
        t_candidate = weighted[2] + reset * inner[2] + kept.inner[t] * t_reset
        t_candidate *= 1 - candidate * candidate
        np.copyto(th, t_candidate + t_update * kept.step(t, step) + update * (th - t_candidate), where=valid)
        found[:, t] = th
    outcome: Array = in_order(found, backward) if sequences else th
    return outcome

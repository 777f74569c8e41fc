"""GRU and LSTM in ONNX: time first, gates in ONNX's order, one direction."""

from __future__ import annotations

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.types import Array

TIME_FIRST = (1, 0, 2)


def gru(scope: OnnxScope, layer: nn.GRU, x: Value) -> Value:
    """Add a GRU; ONNX orders the gates update, reset, candidate, and can apply the reset gate after the product."""
    order = (1, 0, 2)
    recurrent_bias = np.zeros(3 * layer.units)
    recurrent_bias[2 * layer.units :] = scope.weight("candidate_bias")
    return _read(scope, layer, x, "GRU", order, recurrent_bias, linear_before_reset=1)


def lstm(scope: OnnxScope, layer: nn.LSTM, x: Value) -> Value:
    """Add an LSTM; ONNX orders the gates input, output, forget, candidate."""
    order = (0, 3, 1, 2)
    return _read(scope, layer, x, "LSTM", order, np.zeros(4 * layer.units))


def _read(
    scope: OnnxScope,
    layer: nn.GRU | nn.LSTM,
    x: Value,
    op: str,
    order: tuple[int, ...],
    recurrent_bias: Array,
    **attributes: int,
) -> Value:
    def gates(array: Array) -> Array:
        """Reorder the gates along the last axis, and move that axis to the front."""
        parts = np.split(array, len(order), axis=-1)
        return np.concatenate([parts[number].T for number in order])

    w, u = (scope.constant(name, gates(scope.weight(name))[None]) for name in ("weight", "recurrent"))
    both = [gates(scope.weight("bias")), gates(recurrent_bias)]
    taken = [scope.arranged(x, TIME_FIRST).name, w, u, scope.constant("bias", np.concatenate(both)[None])]
    wanted = [True, False] if layer.sequences else [False, True]  # all states, or the last one
    states = scope.node_of_many(op, taken, wanted, hidden_size=layer.units, **attributes)
    direction = scope.constant("direction", np.array([1 if layer.sequences else 0]))
    name = scope.node("Squeeze", next(filter(None, states)), direction)
    if layer.sequences:
        return Value(name, (x.shape[0], layer.units), TIME_FIRST)
    return Value.plain(name, (layer.units,))

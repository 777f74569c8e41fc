"""GRU and LSTM in ONNX: places first, gates in ONNX's order, one direction."""

from __future__ import annotations

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import Place, Value
from dbp.types import Array

TIME_FIRST = (1, 0, 2)


def gru(place: Place, layer: nn.GRU, x: Value) -> Value:
    """The states; ONNX has the gates update, reset, candidate, and the reset gate after the product if told so."""
    order = (1, 0, 2)
    recurrent_bias = np.zeros(3 * layer.units)
    recurrent_bias[2 * layer.units :] = place.weight("candidate_bias")
    return _read(place, layer, x, "GRU", order, recurrent_bias, linear_before_reset=1)


def lstm(place: Place, layer: nn.LSTM, x: Value) -> Value:
    """The states; ONNX has the gates input, output, forget, candidate."""
    order = (0, 3, 1, 2)
    return _read(place, layer, x, "LSTM", order, np.zeros(4 * layer.units))


def _read(
    place: Place,
    layer: nn.GRU | nn.LSTM,
    x: Value,
    op: str,
    order: tuple[int, ...],
    recurrent_bias: Array,
    **attributes: int,
) -> Value:
    def gates(array: Array) -> Array:
        """The last axis in ONNX's order of gates, and in front."""
        parts = np.split(array, len(order), axis=-1)
        return np.concatenate([parts[number].T for number in order])

    w, u = (place.constant(name, gates(place.weight(name))[None]) for name in ("weight", "recurrent"))
    both = [gates(place.weight("bias")), gates(recurrent_bias)]
    taken = [place.arranged(x, TIME_FIRST).name, w, u, place.constant("bias", np.concatenate(both)[None])]
    wanted = [True, False] if layer.sequences else [False, True]  # all states, the last one
    states = place.node_of_many(op, taken, wanted, hidden_size=layer.units, **attributes)
    direction = place.constant("direction", np.array([1 if layer.sequences else 0]))
    name = place.node("Squeeze", next(filter(None, states)), direction)
    if layer.sequences:
        return Value(name, (x.shape[0], layer.units), TIME_FIRST)
    return Value.plain(name, (layer.units,))

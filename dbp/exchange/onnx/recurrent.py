"""GRU and LSTM in ONNX: time first, gates in ONNX's order, one operator for each of the stacked layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.types import Array

TIME_FIRST = (1, 0, 2)


@dataclass(frozen=True)
class _Operator:
    """An operator of ONNX with the order of its gates.

    Args:
        name: of the operator.
        order: of the gates, as their numbers in dbp.
        recurrent_bias: returns the biases within the product with the state, in dbp's order, for a layer's scope.
        attributes: of the operator.
    """

    name: str
    order: tuple[int, ...]
    recurrent_bias: Callable[[OnnxScope, int], Array]
    attributes: dict[str, Any]

    def gates(self, array: Array) -> Array:
        """Reorder the gates along the last axis, and move that axis to the front."""
        parts = np.split(array, len(self.order), axis=-1)
        return np.concatenate([parts[number].T for number in self.order])

    def biases(self, scope: OnnxScope, units: int) -> Array:
        """Return both biases of a layer."""
        return np.concatenate([self.gates(scope.weight("bias")), self.gates(self.recurrent_bias(scope, units))])


def _candidate_bias(scope: OnnxScope, units: int) -> Array:
    return np.concatenate([np.zeros(2 * units), scope.weight("candidate_bias")])


# ONNX can apply the reset gate after the product with the state, as dbp does.
_GRU = _Operator("GRU", (1, 0, 2), _candidate_bias, {"linear_before_reset": 1})
_LSTM = _Operator("LSTM", (0, 3, 1, 2), lambda _scope, units: np.zeros(4 * units), {})


def gru(scope: OnnxScope, layer: nn.GRU, x: Value) -> Value:
    """Add a GRU; ONNX orders the gates update, reset, candidate."""
    return _stacked(scope, layer, x, _GRU)


def lstm(scope: OnnxScope, layer: nn.LSTM, x: Value) -> Value:
    """Add an LSTM; ONNX orders the gates input, output, forget, candidate."""
    return _stacked(scope, layer, x, _LSTM)


def _stacked(scope: OnnxScope, layer: nn.GRU | nn.LSTM, x: Value, operator: _Operator) -> Value:
    for number, paths in enumerate(layer.paths, start=1):
        x = _read(scope, layer, x, operator, paths, sequences=layer.sequences or number < layer.layers)
    return x


def _read(
    scope: OnnxScope, layer: nn.GRU | nn.LSTM, x: Value, operator: _Operator, paths: tuple[str, ...], sequences: bool
) -> Value:
    """Add one of the stacked layers; the constants of both directions have the path of the first."""
    ways = [scope.inside(path) if path else scope for path in paths]
    first, units = ways[0], layer.units
    w, u = (
        first.constant(name, np.stack([operator.gates(way.weight(name)) for way in ways]))
        for name in ("weight", "recurrent")
    )
    taken = [w, u, first.constant("bias", np.stack([operator.biases(way, units) for way in ways]))]
    attributes = operator.attributes | {"hidden_size": units}
    if layer.bidirectional:
        attributes |= {"direction": "bidirectional"}
    wanted = [True, False] if sequences else [False, True]  # all states, or the last one
    states = first.node_of_many(operator.name, [first.arranged(x, TIME_FIRST).name, *taken], wanted, **attributes)
    name = _side_by_side(first, next(filter(None, states)), sequences, len(ways), units)
    shape = (x.shape[0], len(ways) * units) if sequences else (len(ways) * units,)
    return Value(name, shape, TIME_FIRST) if sequences else Value.plain(name, shape)


def _side_by_side(scope: OnnxScope, states: str, sequences: bool, ways: int, units: int) -> str:
    """Join the directions of states, ([length,] directions, examples, units), along the last axis."""
    if ways == 1:
        return scope.node("Squeeze", states, scope.constant("direction", np.array([int(sequences)])))
    turned = scope.node("Transpose", states, perm=[0, 2, 1, 3] if sequences else [1, 0, 2])
    joined = np.array([0, 0, ways * units] if sequences else [0, ways * units])
    return scope.node("Reshape", turned, scope.constant("joined", joined))

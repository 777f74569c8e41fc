"""Dropout in ONNX: nothing, as in evaluation."""

from __future__ import annotations

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value


def dropout(_scope: OnnxScope, _layer: nn.Dropout, x: Value) -> Value:
    """Return the inputs; the graph gets no operator."""
    return x

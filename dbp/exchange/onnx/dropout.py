"""Dropout and augmentation in ONNX: nothing, as in evaluation."""

from __future__ import annotations

from typing import Any

from dbp.exchange.onnx.graph import OnnxScope, Value


def dropout(_scope: OnnxScope, _layer: Any, x: Value) -> Value:
    """Return the inputs; the graph gets no operator."""
    return x

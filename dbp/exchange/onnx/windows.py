"""Windows that slide, as ONNX's operators take them."""

from __future__ import annotations

from typing import Any, Literal

from dbp.autodiff import Window
from dbp.exchange.onnx.graph import Shape


def window_attributes(window: Window, axes: Literal[1, 2]) -> dict[str, Any]:
    """Its settings for the axes that it slides along."""
    padding = window.padding[-axes:]
    return {
        "kernel_shape": list(window.size[-axes:]),
        "strides": list(window.stride[-axes:]),
        "pads": [before for before, _ in padding] + [after for _, after in padding],
        "dilations": list(window.dilation[-axes:]),
    }


def image_of(shape: Shape) -> tuple[int, int]:
    """Height and width of an example (height, width, channels), or 1 and length of (length, channels)."""
    *places, _ = shape
    return (1, places[0]) if len(places) == 1 else (places[0], places[1])

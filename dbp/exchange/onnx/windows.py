"""Sliding windows as attributes of ONNX operators."""

from __future__ import annotations

from typing import Any

from dbp.autodiff import Window
from dbp.exchange.onnx.graph import Shape


def window_attributes(window: Window, axes: int) -> dict[str, Any]:
    """Return the attributes of a window for the axes along which it slides."""
    padding = window.padding[-axes:]
    return {
        "kernel_shape": list(window.size[-axes:]),
        "strides": list(window.stride[-axes:]),
        "pads": [before for before, _ in padding] + [after for _, after in padding],
        "dilations": list(window.dilation[-axes:]),
    }


def image_of(shape: Shape) -> Shape:
    """Return the lengths of an image or a volume, or (1, length) of a sequence, from the shape of an example."""
    *lengths, _ = shape
    return (1, lengths[0]) if len(lengths) == 1 else tuple(lengths)

"""Sliding windows as attributes of ONNX operators."""

from __future__ import annotations

from typing import Any

from dbp.autodiff import Window
from dbp.exchange.onnx.graph import Shape


def window_attributes(window: Window, axes: int, same: bool = False) -> dict[str, Any]:
    """Return the attributes of a window for the axes along which it slides.

    Args:
        window: the window.
        axes: number of the last axes of the window that are axes in ONNX.
        same: whether the padding depends on the lengths of the inputs, by the rule for "same" that ONNX has too.
    """
    padding, is_dilated = window.padding[-axes:], max(window.dilation) > 1
    attributes = {"kernel_shape": list(window.size[-axes:]), "strides": list(window.stride[-axes:])}
    if same and max(window.stride) > 1 and not is_dilated:  # onnxruntime refuses the rule for dilated windows
        return attributes | {"auto_pad": "SAME_UPPER"}
    pads = [before for before, _ in padding] + [after for _, after in padding]
    return attributes | {"pads": pads, "dilations": list(window.dilation[-axes:])}


def image_of(shape: Shape) -> Shape:
    """Return the lengths of an image or a volume, or (1, length) of a sequence, from the shape of an example."""
    *lengths, _ = shape
    return (1, lengths[0]) if len(lengths) == 1 else tuple(lengths)

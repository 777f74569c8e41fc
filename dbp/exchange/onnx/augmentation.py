"""Augmentation in ONNX: only the crop does anything in evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value


def random_crop(scope: OnnxScope, layer: nn.RandomCrop, x: Value) -> Value:
    """Add the crop of the middle."""
    *lengths, channels = x.shape
    part, room = (pair[-len(lengths) :] for pair in layer.part(tuple(lengths)))
    begins = [r // 2 for r in room]
    ends = [begin + p for begin, p in zip(begins, part, strict=True)]
    axes = [x.graph_axis(axis) for axis in range(1, len(x.shape))]
    given = (scope.constant(name, np.array(n)) for name, n in (("begins", begins), ("ends", ends), ("axes", axes)))
    return replace(scope.apply("Slice", x, *given), shape=(*part, channels))

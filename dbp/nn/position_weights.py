"""How much each position of a layer's inputs counts in training, given the weights of the examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.errors import UserError
from dbp.nn.initializers import Shape
from dbp.text import count_text
from dbp.types import Array


def position_weights(weights: Array | None, shape: Shape, masks: Sequence[Array | None]) -> Array | None:
    """Return how much each position counts by the example weights alone; None if all count alike.

    Where the positions are others than those of the weights, an example counts with the mean of its weights.

    Args:
        weights: of the examples, (examples,) or (examples, *positions).
        shape: (examples, *positions), or of rows into which a reshape has made the positions of all examples.
        masks: which positions of the model's inputs hold data.

    Raises:
        UserError: the rows are no positions of the examples.
    """
    if weights is None or (weights == 1).all():
        return None
    if len(weights) != shape[0]:
        weights = _weights_of_rows(weights, shape[0], masks)
    elif weights.shape != shape[: weights.ndim]:
        weights = _example_means(weights, masks)
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def _weights_of_rows(weights: Array, rows: int, masks: Sequence[Array | None]) -> Array:
    """Return how much each of the rows counts into which a reshape has made the positions of all examples."""
    if rows == weights.size:
        return weights.reshape(-1)
    if not len(weights) or rows % len(weights):
        raise UserError(
            f"its inputs have {count_text(rows, 'row')}, which are no positions of the "
            f"{count_text(len(weights), 'example')}, so their weights are unknown; keep the examples as the first axis"
        )
    return np.repeat(_example_means(weights, masks), rows // len(weights))


def _example_means(weights: Array, masks: Sequence[Array | None]) -> Array:
    """Return the mean weight of each example, over its positions that hold data; 0 without any."""
    axes = tuple(range(1, weights.ndim))
    for mask in masks:
        if mask is not None and mask.shape == weights.shape:
            counts = np.maximum(mask.sum(axis=axes), 1).astype(weights.dtype)
            return np.asarray(np.where(mask, weights, 0).sum(axis=axes) / counts)
    return np.asarray(weights.mean(axis=axes))

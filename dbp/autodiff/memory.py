"""Count the memory that a recorded graph keeps, node by node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dbp.autodiff.tensor import Tensor
from dbp.types import Array


def owner(array: Array) -> Array:
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_kept(node: Tensor) -> Iterator[Array]:
    """Yield the arrays that a node keeps for the backward pass: its value, and those in its inputs and options."""
    yield node.value
    unseen: list[Any] = [*node.inputs, node.options]
    while unseen:
        item = unseen.pop()
        if isinstance(item, np.ndarray):
            yield item
        elif isinstance(item, dict):
            unseen += item.values()
        elif isinstance(item, (list, tuple)):
            unseen += item


class MemoryCounter:
    """A counter of bytes that counts memory once, however many arrays are views of it.

    Args:
        known: arrays whose memory is not counted.
    """

    def __init__(self, *known: Array):
        self._seen = {id(owner(array)): owner(array) for array in known}

    def new_bytes(self, array: Array) -> int:
        """Return the bytes of an array's memory, 0 if they were counted before."""
        base = owner(array)
        if id(base) in self._seen:
            return 0
        self._seen[id(base)] = base
        return base.nbytes

    def node_bytes(self, node: Tensor) -> int:
        """Return the bytes that a node keeps and no node before it did."""
        return sum(self.new_bytes(array) for array in arrays_kept(node))

"""The cotangents of a backward pass, each a sum of parts, in the memory of a part where nothing else needs that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dbp.autodiff.tensor import Tensor, Value
from dbp.types import Array


class Cotangents(dict[int, Value]):
    """The cotangents by the serial numbers of their tensors, each the sum of its parts so far.

    A cotangent is owned if nothing else has its array. Then a part is added to it in place, and the reverse rule that
    takes it may write to it. Owned are sums, and a single part that its primitive has made for one input alone.
    """

    def __init__(self, output: Tensor, cotangent: Value) -> None:
        super().__init__({output.created: cotangent})
        self._owned: set[int] = set()

    def add(self, inputs: Sequence[Value], parts: Sequence[Value | None], new: bool) -> None:
        """Add the parts of a node to the cotangents of its inputs.

        Args:
            inputs: of the node.
            parts: one for each input, None for those without.
            new: whether only the caller has the parts, where they are arrays.
        """
        for x, part in zip(inputs, parts, strict=True):
            if part is not None:
                self._add(x.created, part, new and sum(part is other for other in parts) == 1)

    def memory_of(self, created: int) -> Array | None:
        """Return the cotangent of a tensor if its reverse rule may write to it; None otherwise."""
        found = self[created] if created in self._owned else None
        return found if _is_writeable(found) else None

    def _add(self, created: int, part: Value, new: bool) -> None:
        if created not in self:
            self[created] = part
        else:
            before = self[created]
            target = before if created in self._owned else part if new else None
            in_place = _is_writeable(target) and _are_alike(before, part)
            self[created] = np.add(before, part, out=target) if in_place else before + part
        if new or self[created] is not part:
            self._owned.add(created)


def array_in(memory: Array | None, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array to write to: the memory of a cotangent that is no longer needed if it fits, else a new one."""
    if memory is not None and memory.shape == shape and memory.dtype == dtype and memory.flags.c_contiguous:
        return memory
    return np.empty(shape, dtype)


def _is_writeable(array: Value | None) -> bool:
    return type(array) is np.ndarray and array.flags.writeable


def _are_alike(one: Value, other: Value) -> bool:
    """Return True for two arrays whose sum has their shape and their type."""
    return type(one) is type(other) is np.ndarray and one.shape == other.shape and one.dtype == other.dtype

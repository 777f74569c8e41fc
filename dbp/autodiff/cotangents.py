"""The cotangents of a backward pass: the sums of their parts, in the memory of one of them where nobody else has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.tensor import Tensor, Value
from dbp.types import Array


class Cotangents(dict[int, Value]):
    """The cotangents by the serial numbers of their tensors, each the sum of its parts so far.

    A cotangent is owned if its memory is its own: then a part is added in place, and the rule that it goes to may write
    to it. It is, if it is a sum, or if a primitive states that its cotangents are new and gave it to one input alone.
    """

    def __init__(self, output: Tensor, cotangent: Value) -> None:
        super().__init__({output.created: cotangent})
        self._owned: set[int] = set()

    def add(self, inputs: Sequence[Value], parts: Sequence[Value | None], new: bool) -> None:
        """Add what a node brings to the cotangents of its inputs.

        Args:
            inputs: of the node.
            parts: one for each input, None for those without.
            new: whether the parts are arrays that only the caller has, if they are arrays.
        """
        for x, part in zip(inputs, parts, strict=True):
            if part is not None:
                self._add(x.created, part, new and sum(part is other for other in parts) == 1)

    def memory_of(self, created: int) -> Array | None:
        """Return the cotangent of a tensor if it is owned, to be written to by who takes it; None otherwise."""
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


def _is_writeable(array: Value | None) -> bool:
    return type(array) is np.ndarray and array.flags.writeable


def _are_alike(one: Value, other: Value) -> bool:
    """Return True for two arrays whose sum has their shape and their type."""
    return type(one) is type(other) is np.ndarray and one.shape == other.shape and one.dtype == other.dtype

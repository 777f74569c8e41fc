"""The form in which numbers travel between nodes: as float32, or rounded to 16 bits. Sums are always in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbp.types import Array

Action = Callable[[], None]
BFLOAT16_NAN = np.uint16(0x7FC0)


def do_nothing() -> None:
    """Return: an action that does nothing."""


def to_bfloat16(numbers: Array, bits: Array) -> None:
    """Write float32 numbers as bfloat16: the upper half of each, rounded to nearest, ties to even."""
    words = numbers.view(np.uint32)
    bits[:] = (words + (((words >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
    bits[np.isnan(numbers)] = BFLOAT16_NAN


def from_bfloat16(bits: Array, numbers: Array) -> None:
    """Write bfloat16 numbers as float32, which is exact."""
    np.left_shift(bits, np.uint32(16), out=numbers.view(np.uint32), dtype=np.uint32, casting="unsafe")


def to_float16(numbers: Array, bits: Array) -> None:
    """Write float32 numbers as float16, rounded to nearest; magnitudes above 65,504 become infinity."""
    with np.errstate(over="ignore"):
        bits.view(np.float16)[:] = numbers


def from_float16(bits: Array, numbers: Array) -> None:
    """Write float16 numbers as float32, which is exact."""
    numbers[:] = bits.view(np.float16)


FORMS: dict[str, tuple[Callable[[Array, Array], None], Callable[[Array, Array], None]] | None] = {
    "full": None,
    "bfloat16": (to_bfloat16, from_bfloat16),
    "float16": (to_float16, from_float16),
}


class Wire:
    """The form of messages that hold all elements of a part of a float32 vector.

    Each method returns the array of a message together with an action: it packs the array before sending, or unpacks
    it after receiving.

    Args:
        form: a name in FORMS.
    """

    one_sum_per_node = False  # whether a node sends one sum of all its shards, whatever the tree

    def __init__(self, form: str = "full"):
        self._form = FORMS[form]
        self.is_exact = self._form is None  # True if all numbers arrive as they are
        self.cannot_overflow = form != "float16"  # True if numbers whose squares are finite in float32 stay finite

    def start(self) -> None:
        """Prepare for messages between nodes."""

    def outgoing(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """Return the message for a part of a vector, and the action that packs it."""
        piece = vector[part]
        if self._form is None:
            return piece, do_nothing
        bits, pack = np.empty(len(piece), np.uint16), self._form[0]
        return bits, lambda: pack(piece, bits)

    def incoming(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """Return the memory that receives the message for a part, and the action that unpacks it."""
        piece = vector[part]
        if self._form is None:
            return piece, do_nothing
        bits, unpack = np.empty(len(piece), np.uint16), self._form[1]
        return bits, lambda: unpack(bits, piece)

    def outgoing_sum(self, total: Array, part: slice) -> tuple[Array, Action]:
        """Return the message with a finished sum, and the action that packs it and rounds the sum in the same way."""
        bits, pack = self.outgoing(total, part)
        if self._form is None:
            return bits, pack
        unpack, piece = self._form[1], total[part]

        def pack_and_round() -> None:
            pack()
            unpack(bits, piece)

        return bits, pack_and_round

    def local_sum(self, total: Array, part: slice) -> Action:  # noqa: ARG002
        """Return the action for a finished sum that is not sent."""
        return do_nothing

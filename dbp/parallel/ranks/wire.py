"""In what form numbers travel between nodes: as they are, or rounded to 16 bits. Sums are taken in float32 anyhow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbp.types import Array

Action = Callable[[], None]
NOT_A_NUMBER = np.uint16(0x7FC0)  # in bfloat16


def nothing() -> None:
    """Where there is nothing to do."""


def to_bfloat16(numbers: Array, bits: Array) -> None:
    """The upper half of each float32, rounded to the nearest, of two as near to the even one."""
    whole = numbers.view(np.uint32)
    bits[:] = (whole + (((whole >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
    bits[np.isnan(numbers)] = NOT_A_NUMBER


def from_bfloat16(bits: Array, numbers: Array) -> None:
    """Exact."""
    np.left_shift(bits, np.uint32(16), out=numbers.view(np.uint32), dtype=np.uint32, casting="unsafe")


def to_float16(numbers: Array, bits: Array) -> None:
    """Rounded to the nearest; infinity above 65,504."""
    with np.errstate(over="ignore"):
        bits.view(np.float16)[:] = numbers


def from_float16(bits: Array, numbers: Array) -> None:
    """Exact."""
    numbers[:] = bits.view(np.float16)


FORMS: dict[str, tuple[Callable[[Array, Array], None], Callable[[Array, Array], None]] | None] = {
    "full": None,
    "bfloat16": (to_bfloat16, from_bfloat16),
    "float16": (to_float16, from_float16),
}


class Wire:
    """How parts of float32 vectors become messages, and what arrives becomes parts of vectors again.

    Args:
        form: a name in FORMS.
    """

    together = False  # whether a node sends one sum of all its shards, whatever the tree

    def __init__(self, form: str = "full"):
        self._form = FORMS[form]
        self.cannot_overflow = form != "float16"  # True if numbers whose squares are finite in float32 stay finite

    def start(self) -> None:
        """Several nodes are about to use it."""

    def outgoing(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """What is sent for a part of a vector, and what brings it up to date."""
        piece = vector[part]
        if self._form is None:
            return piece, nothing
        bits, pack = np.empty(len(piece), np.uint16), self._form[0]
        return bits, lambda: pack(piece, bits)

    def incoming(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """What is received for a part of a vector, and what brings that part up to date."""
        piece = vector[part]
        if self._form is None:
            return piece, nothing
        bits, unpack = np.empty(len(piece), np.uint16), self._form[1]
        return bits, lambda: unpack(bits, piece)

    def finished(self, total: Array, part: slice) -> tuple[Array, Action]:
        """What all others are sent of a finished sum, and what brings that up to date, and the sum to what they get."""
        bits, pack = self.outgoing(total, part)
        if self._form is None:
            return bits, pack
        unpack, piece = self._form[1], total[part]

        def rounded() -> None:
            pack()
            unpack(bits, piece)

        return bits, rounded

    def kept(self, total: Array, part: slice) -> Action:  # noqa: ARG002
        """What is done to a finished sum that is not sent."""
        return nothing

"""In what form numbers travel between nodes: as they are, or rounded to 16 bits. Sums are taken in float32 anyhow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbp.parallel.tree import Array

Action = Callable[[], None]
NOT_A_NUMBER = np.uint16(0x7FC0)  # in bfloat16


def _nothing() -> None: ...


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
    """How pieces of float32 vectors become messages.

    Args:
        form: a name in FORMS.
    """

    def __init__(self, form: str):
        self._form = FORMS[form]

    def outgoing(self, piece: Array) -> tuple[Array, Action]:
        """What is sent for a piece, and what brings it up to date."""
        if self._form is None:
            return piece, _nothing
        bits, pack = np.empty(len(piece), np.uint16), self._form[0]
        return bits, lambda: pack(piece, bits)

    def incoming(self, piece: Array) -> tuple[Array, Action]:
        """What is received for a piece, and what brings the piece up to date."""
        if self._form is None:
            return piece, _nothing
        bits, unpack = np.empty(len(piece), np.uint16), self._form[1]
        return bits, lambda: unpack(bits, piece)

    def rounding(self, piece: Array) -> Action:
        """What makes a piece what others get of it."""
        if self._form is None:
            return _nothing
        bits, pack = self.outgoing(piece)
        unpack = self._form[1]

        def rounded() -> None:
            pack()
            unpack(bits, piece)

        return rounded

"""Whole pages of memory, so that each page holds what one rank writes and lies near that rank's processor."""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes

PAGE_BYTES = 4096


def page_bytes(length: int) -> int:
    """Return the length in bytes of the whole pages that hold so many bytes."""
    return -(-length // PAGE_BYTES) * PAGE_BYTES


def cut(memory: Bytes, lengths: list[int]) -> list[Bytes]:
    """Return consecutive parts of these lengths in bytes, each beginning with a page."""
    starts = np.cumsum([0, *map(page_bytes, lengths)])
    return [memory[start : start + length] for start, length in zip(starts, lengths, strict=False)]

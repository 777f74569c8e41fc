"""Progress of a conversion on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

SECONDS = 2.0  # before the bar appears, so that short conversions have none
Rows = TypeVar("Rows")


def with_progress(
    blocks: Iterable[Rows], length: Callable[[Rows], int], what: str, count: int | None = None
) -> Iterator[Rows]:
    """Yield blocks of rows, with a bar on the terminal if standard error is one.

    Args:
        blocks: the blocks.
        length: returns the number of rows of a block.
        what: what is done with them, in words.
        count: the number of all rows, if it is known.
    """
    with tqdm(desc=what, total=count, unit=" rows", leave=False, delay=SECONDS, disable=None) as bar:
        for block in blocks:
            yield block
            bar.update(length(block))

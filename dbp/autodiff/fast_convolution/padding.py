"""Which positions of a padded axis have data of the axis under them."""

from __future__ import annotations


def overlap(count: int, step: int, shift: int, length: int) -> tuple[slice, slice]:
    """Return the positions i < count for which step * i + shift lies on an axis, and these places of the axis.

    Args:
        count: number of positions.
        step: distance of the places of neighboring positions.
        shift: place of position 0; negative if it lies in the padding.
        length: of the axis.
    """
    first = min(count, max(0, -(shift // step)))
    last = max(first, min(count, -((shift - length) // step)))
    begin = first * step + shift
    return slice(first, last), slice(begin, begin + (last - first) * step, step)

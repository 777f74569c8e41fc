"""Which positions of a padded axis have data of the axis under them."""

from __future__ import annotations


def overlap(count: int, step: int, shift: int, length: int) -> tuple[slice, slice]:
    """Return the positions i < count for which step * i + shift lies on an axis, and the span of these on the axis.

    Args:
        count: number of positions.
        step: distance on the axis of neighboring positions.
        shift: where position 0 lies on the axis; negative if it lies in the padding.
        length: of the axis.
    """
    first = min(count, max(0, -(shift // step)))
    last = max(first, min(count, -((shift - length) // step)))
    begin = first * step + shift
    return slice(first, last), slice(begin, begin + (last - first) * step, step)

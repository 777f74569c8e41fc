"""The sum of values by row: the gradient of rows that were looked up, some of them several times."""

from __future__ import annotations

import numpy as np

from dbp.types import Array

MOST_ROUNDS = 16  # a row with more values is added up by a call of its own


def added_by_row(numbers: Array, values: Array) -> tuple[Array, Array]:
    """Return the numbers of all rows that have values, in rising order, and the sum of the values of each.

    The bits of a row depend on its own values alone, and on their order.

    Args:
        numbers: of rows, not negative, (values,); a row may come several times.
        values: one for each of the numbers, (values, ...).
    """
    order = np.argsort(numbers, kind="stable")
    in_order = numbers[order]
    is_first = np.ones(len(order), bool)
    np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    counts = np.diff(starts, append=len(order))
    sums = values[order[starts]]
    often = counts > MOST_ROUNDS
    for i in np.flatnonzero(often):
        sums[i] = np.add.reduce(values[order[starts[i] : starts[i] + counts[i]]], axis=0)
    waiting = np.flatnonzero(~often & (counts > 1))
    for turn in range(1, MOST_ROUNDS):
        if not len(waiting):
            break
        sums[waiting] += values[order[starts[waiting] + turn]]
        waiting = waiting[counts[waiting] > turn + 1]
    return in_order[starts], np.add(sums, 0, out=sums)  # -0.0 becomes 0.0, as in a sum that begins with zeros

"""The fixed binary tree along which shards are summed, so that the bits of a sum do not depend on who adds what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from dbp.types import Array

Branch = tuple[int, int]  # level and index: the sum of the shards from index * 2^level on, 2^level of them

Part = TypeVar("Part")  # what is added up in place, by +=


class TreeSum(Generic[Part]):
    """The sum along the binary tree over the numbers 0 .. S-1, of parts that arrive from left to right.

    A branch (level, index) is the sum of the numbers from index * 2^level up to, not including, (index + 1) * 2^level.
    Two parts are added as soon as both children of a branch are there, so no more than one part a level is held.

    Args:
        recycle: called with each part whose content was added to another, so that its memory can be used again.
        separate: the number of a part that is held but not added to those before it, because other ranks add it, piece
            by piece, while it is still being written.
    """

    def __init__(self, recycle: Callable[[Part], None] | None = None, separate: int | None = None):
        self.branches: list[tuple[int, int, Part]] = []
        self._recycle: Callable[[Part], None] = recycle or (lambda part: None)
        self._separate = separate

    def push(self, level: int, index: int, part: Part) -> None:
        """Add the next part to the right."""
        while (
            self.branches and index % 2 == 1 and self.branches[-1][:2] == (level, index - 1) and index != self._separate
        ):
            left: Any = self.branches.pop()[2]
            left += part
            self._recycle(part)
            level, index, part = level + 1, index // 2, left
        self.branches.append((level, index, part))

    def total(self) -> Part:
        """Return the sum of all parts, after the last: branches without a right sibling move up unchanged."""
        while len(self.branches) > 1:
            right = self.branches.pop()[2]
            level, index, part = self.branches.pop()
            left: Any = part
            left += right
            self.branches.append((level, index, left))
        return self.branches[0][2]


class _Recorded:
    """A stand-in for a part, which records what is added to it."""

    def __init__(self, number: int, record: list[tuple[int, int]]):
        self.number, self.record = number, record

    def __iadd__(self, other: _Recorded) -> Self:
        self.record.append((self.number, other.number))
        return self


def branches_of(span: range, keep_last_separate: bool = False) -> list[Branch]:
    """Return the branches that remain when the shards of a span are summed as far as the tree allows.

    Args:
        span: the numbers of the shards.
        keep_last_separate: True if the last shard is not added to the others; see TreeSum.
    """
    tree: TreeSum[_Recorded] = TreeSum(separate=span[-1] if keep_last_separate and span else None)
    for number in span:
        tree.push(0, number, _Recorded(number, []))
    return [(level, index) for level, index, _ in tree.branches]


class Additions(NamedTuple):
    """The additions that sum n parts along the tree without changing them.

    Parts and sums are known by slots: parts have the slots 0 to n - 1, sums those from n on, some of which are used
    again. Only sums that begin with the first part have the slot n, which may thus be the first part's memory itself.

    Args:
        steps: slots of left operand, right operand and sum.
        remaining: the slots of the sums that remain.
        branches: the branches of the tree that these are.
    """

    steps: list[tuple[int, int, int]]
    remaining: list[int]
    branches: list[Branch]


def _recorded(branches: Sequence[Branch], to_root: bool) -> tuple[list[tuple[int, int]], TreeSum[_Recorded]]:
    """Return the pairs (left, right) of parts of which the left becomes their sum, in order, and what remains."""
    record: list[tuple[int, int]] = []
    tree: TreeSum[_Recorded] = TreeSum()
    for number, branch in enumerate(branches):
        tree.push(*branch, _Recorded(number, record))
    if to_root and branches:
        tree.total()
    return record, tree


def rounds(branches: Sequence[Branch]) -> list[tuple[Array, Array]]:
    """Return the additions that sum up all branches, in rounds of which each needs only those before.

    Args:
        branches: from left to right, all of the tree.

    Returns:
        the numbers of the left and of the right parts of each round; the left become the sums, at last the first.
    """
    record, _ = _recorded(branches, to_root=True)
    ready, found = [0] * len(branches), list[list[tuple[int, int]]]()
    for left, right in record:
        number = max(ready[left], ready[right])
        ready[left] = number + 1
        if number == len(found):
            found.append([])
        found[number].append((left, right))
    return [tuple(np.array(pairs, np.intp).T) for pairs in found]


def additions(branches: Sequence[Branch], to_root: bool = True) -> Additions:
    """Return the additions of parts that are these branches of the tree.

    Args:
        branches: from left to right.
        to_root: True if there are no other branches, so that one sum remains; else they are summed as far as the tree
            allows.
    """
    record, tree = _recorded(branches, to_root)
    count = len(branches)
    slot, free, steps = list(range(count)), list(range(2 * count, count, -1)), []
    for left, right in record:
        target = slot[left] if slot[left] >= count else free.pop() if left else count
        steps.append((slot[left], slot[right], target))
        if slot[right] >= count:
            free.append(slot[right])
        slot[left] = target  # where the sum that began with this part is now
    return Additions(steps, [slot[part.number] for *_, part in tree.branches], [branch[:2] for branch in tree.branches])


class Adder:
    """The additions for one piece of all parts.

    Args:
        plan: the additions.
        parts: the piece of each part.
        sums: memory for each sum that remains; not used for a part that remains as it is.
        spare: memory for intermediate sums, by slot, which adders that work in turn share.

    Attributes:
        sums: the memory in which the sums that remain are: a part's, or what was given.
    """

    def __init__(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], spare: dict[int, Array]):
        count = len(parts)
        slots: dict[int, Array] = dict(enumerate(parts))
        slots |= {slot: array for slot, array in zip(plan.remaining, sums, strict=True) if slot >= count}
        for slot in {target for _, _, target in plan.steps} - set(slots):
            if slot not in spare or len(spare[slot]) < len(parts[0]):
                spare[slot] = np.empty_like(parts[0])
            slots[slot] = spare[slot][: len(parts[0])]
        self._steps = [(slots[left], slots[right], slots[target]) for left, right, target in plan.steps]
        self.sums = [slots[slot] for slot in plan.remaining]

    def add(self) -> list[Array]:
        """Compute and return the sums that remain."""
        for left, right, target in self._steps:
            np.add(left, right, target)
        return self.sums

"""The fixed tree along which shards are summed, so that a sum has the same bits whoever adds up which part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from dbp.types import Array

Node = tuple[int, int]  # level and index


Part = TypeVar("Part")  # what is added up in place, by +=


class TreeSum(Generic[Part]):
    """The sum along the binary tree over the numbers 0 .. S-1, of parts that arrive from left to right.

    A node (level, index) is the sum of the numbers from index 2^level to (index + 1) 2^level. Two parts
    are added as soon as both children of a node are there, so no more than one part a level is held.

    Args:
        spent: is given each part whose sum has gone into another, for use again.
        last: the number of a part that is taken in but not added to others, as somebody else will do that.
    """

    def __init__(self, spent: Callable[[Part], None] | None = None, last: int | None = None):
        self.nodes: list[tuple[int, int, Part]] = []
        self._spent: Callable[[Part], None] = spent or (lambda part: None)
        self._last = last

    def push(self, level: int, index: int, part: Part) -> None:
        """Take in the next part to the right."""
        while self.nodes and index % 2 == 1 and self.nodes[-1][:2] == (level, index - 1) and index != self._last:
            left: Any = self.nodes.pop()[2]
            left += part
            self._spent(part)
            level, index, part = level + 1, index // 2, left
        self.nodes.append((level, index, part))

    def total(self) -> Part:
        """The sum of all, when the last part is in: nodes without a right sibling move up unchanged."""
        while len(self.nodes) > 1:
            right = self.nodes.pop()[2]
            level, index, part = self.nodes.pop()
            left: Any = part
            left += right
            self.nodes.append((level, index, left))
        return self.nodes[0][2]


class _Noted:
    """Stands for a part in the tree, and notes what is added to it."""

    def __init__(self, number: int, notes: list[tuple[int, int]]):
        self.number, self.notes = number, notes

    def __iadd__(self, other: _Noted) -> Self:
        self.notes.append((self.number, other.number))
        return self


def subtrees(run: range, last_apart: bool = False) -> list[Node]:
    """The nodes that remain when the shards of a run are summed as far as the tree allows.

    Args:
        run: the numbers of the shards.
        last_apart: whether the last shard is not added to the others.
    """
    tree: TreeSum[_Noted] = TreeSum(last=run[-1] if last_apart and run else None)
    for number in run:
        tree.push(0, number, _Noted(number, []))
    return [(level, index) for level, index, _ in tree.nodes]


class Additions(NamedTuple):
    """How parts are added up along the tree without a change to them; parts and sums are known by their places.

    The parts have the places 0 to n - 1, sums those from n on, of which some are used again. Only sums that begin with
    the first part have the place n, so that it may be that part itself if this may change.
    """

    steps: list[tuple[int, int, int]]  # left, right, sum
    left: list[int]  # the places of what remains
    nodes: list[Node]  # and the nodes of the tree that these are


def additions(nodes: Sequence[Node], whole: bool = True) -> Additions:
    """The additions of parts that are these nodes of the tree.

    Args:
        nodes: from left to right.
        whole: whether these are all there are, so that one sum remains; else they are added as far as the tree allows.
    """
    notes: list[tuple[int, int]] = []
    tree: TreeSum[_Noted] = TreeSum()
    for number, node in enumerate(nodes):
        tree.push(*node, _Noted(number, notes))
    if whole and nodes:
        tree.total()
    count = len(nodes)
    place, free, steps = list(range(count)), list(range(2 * count, count, -1)), []
    for left, right in notes:
        target = place[left] if place[left] >= count else free.pop() if left else count
        steps.append((place[left], place[right], target))
        if place[right] >= count:
            free.append(place[right])
        place[left] = target  # where the sum that began with this part is now
    return Additions(steps, [place[part.number] for *_, part in tree.nodes], [node[:2] for node in tree.nodes])


class Adder:
    """Adds up the same piece of all parts.

    Args:
        plan: the additions.
        parts: the piece of each part.
        sums: where the sums that remain go, one for each; a part that remains as it is goes nowhere.
        spare: memory for the sums on the way, by place, which adders that work in turn share.
    """

    def __init__(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], spare: dict[int, Array]):
        count = len(parts)
        places: dict[int, Array] = dict(enumerate(parts))
        places |= {place: array for place, array in zip(plan.left, sums, strict=True) if place >= count}
        for place in {target for _, _, target in plan.steps} - set(places):
            if place not in spare or len(spare[place]) < len(parts[0]):
                spare[place] = np.empty_like(parts[0])
            places[place] = spare[place][: len(parts[0])]
        self._steps = [(places[left], places[right], places[target]) for left, right, target in plan.steps]
        self.sums = [places[place] for place in plan.left]  # where they are: in a part itself, or in its place

    def add(self) -> list[Array]:
        """Gives the sums."""
        for left, right, target in self._steps:
            np.add(left, right, target)
        return self.sums

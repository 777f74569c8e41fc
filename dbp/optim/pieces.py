"""The pieces in which vectors are worked on, each of parameters with the same settings."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import NamedTuple

from dbp.errors import UserError
from dbp.optim.method import Vector, pieces

Shapes = Mapping[str, tuple[int, ...]]


class Setting(NamedTuple):
    """What is settled for a parameter.

    Args:
        rate: factor on the learning rate.
        decay: of its weights.
        group: a piece does not reach from one group to another; what they are is for the method to say.
    """

    rate: float = 1.0
    decay: float = 0.0
    group: int = 0


class Part(NamedTuple):
    """A part of the vectors, all of it with one setting."""

    where: slice
    setting: Setting


@dataclass(slots=True)
class Piece:
    """A part of the vectors at work.

    Args:
        w: the weights.
        g: their gradient, as it is to be used: not to be written to.
        vectors: the method's own, by name.
        spare: three rows to compute in, of which the third may hold g.
        rate: the learning rate.
        decay: of the weights.
        group: of the setting.
        where: in the whole.
    """

    w: Vector
    g: Vector
    vectors: dict[str, Vector]
    spare: list[Vector]
    rate: float
    decay: float
    group: int
    where: slice


def parts_of(owned: Sequence[slice], shapes: Shapes, settings: Iterable[Setting]) -> list[Part]:
    """What is owned, cut where settings change from one parameter to the next, and to pieces that fit the cache."""
    return [
        Part(piece, setting)
        for setting, stretch in _stretches(shapes, settings)
        for part in owned
        if max(part.start, stretch.start) < min(part.stop, stretch.stop)
        for piece in pieces([slice(max(part.start, stretch.start), min(part.stop, stretch.stop))])
    ]


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _stretches(shapes: Shapes, settings: Iterable[Setting]) -> Iterator[tuple[Setting, slice]]:
    """Parameters that follow each other with the same setting, taken together."""
    start, end, current = 0, 0, Setting()
    for setting, shape in zip(settings, shapes.values(), strict=True):
        if setting != current and _size(shape):
            if start < end:
                yield current, slice(start, end)
            start, current = end, setting
        end += _size(shape)
    if start < end:
        yield current, slice(start, end)


def slices_of(shapes: Shapes) -> dict[str, slice]:
    """Where each parameter lies in a vector."""
    ends = accumulate(_size(shape) for shape in shapes.values())
    return {name: slice(end - _size(shape), end) for (name, shape), end in zip(shapes.items(), ends, strict=True)}


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of some patterns, such as dense_1/* or */bias, is that of a parameter."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(setting: str, patterns: Iterable[str], names: Iterable[str], what: str = "parameters") -> None:
    """UserError if one of them is that of none of these parameters."""
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            hint = f"the nearest name is {near[0]!r}" if near else "there are none"
            raise UserError(f"optimizer: {setting} must name {what} of the model, but has {pattern!r}; {hint}")

"""The blocks in which first-order methods update the flat vectors, and the settings of each parameter.

A block fits into the cache together with the optimizer's vectors, and all of its parameters have the same settings.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import NamedTuple

from dbp.errors import UserError
from dbp.optim.blockwise import cache_blocks
from dbp.optim.protocols import Vector

Shapes = Mapping[str, tuple[int, ...]]  # of the parameters, by name, in the order of the flat vector


class ParameterSetting(NamedTuple):
    """The settings of one parameter.

    Args:
        rate_factor: a factor on the learning rate.
        weight_decay: its strength.
        group: a number that the optimizer gives a meaning to; no block contains parameters of two groups.
    """

    rate_factor: float = 1.0
    weight_decay: float = 0.0
    group: int = 0


@dataclass(slots=True)
class Block:
    """A block of the flat vectors: views of equal length, and the settings that hold for all of it.

    Args:
        w: the weights.
        g: the gradient, clipped and with weight decay; read only.
        vectors: the optimizer's vectors and scratch vectors, by name.
        buffers: three arrays for intermediate results; the third may hold g.
        learning_rate: the schedule's factor and those of the parameters included.
        weight_decay: its strength.
        group: the group of its parameters, see ParameterSetting.
        where: the range of the flat vectors.
    """

    w: Vector
    g: Vector
    vectors: dict[str, Vector]
    buffers: list[Vector]
    learning_rate: float
    weight_decay: float
    group: int
    where: slice


def block_ranges(
    owned: Sequence[slice], shapes: Shapes, settings: Iterable[ParameterSetting]
) -> list[tuple[slice, ParameterSetting]]:
    """Cut the owned ranges where the settings change between parameters, and to the size of cache blocks."""
    return [
        (block, setting)
        for setting, span in _spans(shapes, settings)
        for part in owned
        if max(part.start, span.start) < min(part.stop, span.stop)
        for block in cache_blocks([slice(max(part.start, span.start), min(part.stop, span.stop))])
    ]


def _spans(shapes: Shapes, settings: Iterable[ParameterSetting]) -> Iterator[tuple[ParameterSetting, slice]]:
    """Yield the ranges of consecutive parameters with the same setting."""
    start, end, current = 0, 0, ParameterSetting()
    for setting, shape in zip(settings, shapes.values(), strict=True):
        size = math.prod(shape)
        if setting != current and size:
            if start < end:
                yield current, slice(start, end)
            start, current = end, setting
        end += size
    if start < end:
        yield current, slice(start, end)


def slices_of(shapes: Shapes) -> dict[str, slice]:
    """Return the range of each parameter in a flat vector."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    return {name: slice(end - size, end) for name, size, end in zip(shapes, sizes, accumulate(sizes), strict=True)}


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return True if a parameter's name matches one of the patterns, such as dense_1/* or */bias."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(setting: str, patterns: Iterable[str], names: Iterable[str], what: str = "parameters") -> None:
    """Raise UserError unless every pattern matches at least one of the names.

    Args:
        setting: the name of the setting that holds the patterns.
        patterns: as for matches().
        names: of the parameters that may be matched.
        what: what these parameters are, in the plural.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            hint = f"the nearest name is {near[0]!r}" if near else "there are none"
            raise UserError(f"optimizer: {setting} must name {what} of the model, but has {pattern!r}; {hint}")

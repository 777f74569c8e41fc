"""The layout of all parameters in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from dbp.types import Array


class RowTable(NamedTuple):
    """A parameter of equal rows in a flat vector, of which a shard has a gradient for some rows alone.

    Args:
        name: of the parameter.
        start: where it begins.
        rows: how many it has.
        units: numbers of a row.
        sparse: True if a step changes only the rows with a gradient.
    """

    name: str
    start: int
    rows: int
    units: int
    sparse: bool

    @property
    def part(self) -> slice:
        """Return its part of the vector."""
        return slice(self.start, self.start + self.rows * self.units)

    def view(self, vector: Array) -> Array:
        """Return its rows in a flat vector, (rows, units)."""
        return vector[self.part].reshape(self.rows, self.units)


@dataclass(frozen=True)
class Layout:
    """The offset of each parameter in a flat vector.

    Args:
        shapes: of the parameters, by name, in their order in the vector; the tables come last.
        tables: names of those whose gradients are computed for some of their rows alone, as RowSum adds them up.
        sparse: names of the tables of which a step changes only the rows with a gradient.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tables: Collection[str] = ()
    sparse: Collection[str] = ()

    @classmethod
    def of(cls, parameters: Mapping[str, Array]) -> Layout:
        """Return the layout of these parameters, in their order."""
        return cls({name: array.shape for name, array in parameters.items()})

    @classmethod
    def with_tables(
        cls, shapes: Mapping[str, tuple[int, ...]], tables: Collection[str], sparse: Collection[str] = ()
    ) -> Layout:
        """Return the layout of parameters of these shapes, with those among them that are tables at its end."""
        found = [name for name in shapes if name in tables]
        dense = {name: shape for name, shape in shapes.items() if name not in tables}
        return cls({**dense, **{name: shapes[name] for name in found}}, found, [n for n in found if n in sparse])

    @classmethod
    def flat(cls, size: int) -> Layout:
        """Return the layout of one parameter of that many elements."""
        return cls({"all": (size,)})

    @cached_property
    def size(self) -> int:
        """Return the length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def dense(self) -> Layout:
        """Return the layout of the parameters before the tables, and so that of gradients without their rows."""
        if not self.tables:
            return self
        return Layout({name: shape for name, shape in self.shapes.items() if name not in self.tables})

    @cached_property
    def row_tables(self) -> list[RowTable]:
        """Return the tables, in their order in the vector."""
        found, start = list[RowTable](), self.dense.size
        for name in self.tables:
            rows, units = self.shapes[name]
            found.append(RowTable(name, start, rows, units, name in self.sparse))
            start = found[-1].part.stop
        return found

    @property
    def ends(self) -> list[int]:
        """Return where each parameter ends."""
        return list(accumulate(math.prod(shape) for shape in self.shapes.values()))

    def views(self, vector: Array, writable: bool = False) -> dict[str, Array]:
        """Return the parameters by name, as views of the vector; read-only by default."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            view = vector[start:end].reshape(shape)
            view.flags.writeable = writable
            views[name] = view
            start = end
        return views

    def flatten(self, parameters: Mapping[str, Array], dtype: Any) -> Array:
        """Return a new vector that holds these parameters."""
        vector = np.empty(self.size, dtype)
        for name, view in self.views(vector, writable=True).items():
            view[...] = parameters[name]
        return vector

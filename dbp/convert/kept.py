"""Columns of a table that the data file keeps beside the inputs, such as groups and weights for drawing."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dbp.convert.roles import KEPT, Roles, Table, TableBlock
from dbp.convert.scan import Cells, TextScan, encoded
from dbp.convert.values import EXACT, is_number, numbers
from dbp.data.columns import ColumnNames
from dbp.data.dataset import role_of
from dbp.data.row_names import SINGULAR
from dbp.data.scaling import SHOWN_LETTERS
from dbp.errors import UserError
from dbp.text import count_text
from dbp.types import Array

CODE = re.compile("[+-]?0[0-9]+")  # such as 007, which as a number would be that of 7


class KeptScan(TextScan):
    """What is known of a column that is kept: numbers if all its cells are, else texts."""

    def __init__(self) -> None:
        super().__init__()
        self._are_numbers = self._are_whole = True
        self._counts = {True: 0, False: 0}  # of cells that are numbers, and of others
        self._first: tuple[int, str] | None = None  # the line and the text of the first cell that is no number

    def add(self, lines: Sequence[int], cells: Cells) -> None:
        """Add cells."""
        super().add(lines, cells)
        found = _as_numbers(cells)
        self._are_numbers &= found is not None
        if found is not None:
            self._are_whole &= bool((np.abs(found) <= EXACT).all() and (found == np.floor(found)).all())
        which = np.full(len(cells), True) if found is not None else _are_numbers(cells)
        self._counts[True] += int(which.sum())
        self._counts[False] += int((~which).sum())
        if self._first is None and not which.all():
            row = int(which.argmin())
            self._first = lines[row], str(cells[row])[:SHOWN_LETTERS]

    def notes(self, name: str, row_word: str) -> list[str]:
        """Return a line for the user if a column is kept as texts though some of its cells are numbers.

        Args:
            name: of the column.
            row_word: what lines are called.
        """
        if self._first is None or not self._counts[True]:
            return []
        line, text = self._first
        others = count_text(self._counts[False], "cell")
        is_none = "is no number" if self._counts[False] == 1 else "are no numbers"
        return [
            f"{name}: kept as texts, as {others} of {self._counts[True] + self._counts[False]:,} {is_none}, the first "
            f"in {row_word} {line}: {text!r}"
        ]

    @property
    def dtype(self) -> str:
        """Return the type in the data file."""
        if not self._are_numbers:
            return f"S{self.width}"
        return "int64" if self._are_whole else "float64"


def _as_numbers(cells: Cells) -> Array | None:
    """Return cells as numbers; None unless each has a finite one."""
    if not isinstance(cells, np.ndarray):
        return None if any(map(CODE.fullmatch, cells)) else numbers(cells)
    return cells if cells.dtype.kind != "M" and np.isfinite(cells).all() else None


def _are_numbers(cells: Cells) -> Array:
    """Return which cells are numbers."""
    if isinstance(cells, np.ndarray):
        return np.isfinite(cells) if cells.dtype.kind != "M" else np.full(len(cells), False)
    return np.fromiter((is_number(cell) and not CODE.fullmatch(cell) for cell in cells), bool, len(cells))


def check_kept(table: Table, roles: Roles) -> None:
    """Raise UserError if a column that is kept has no name for a data set of its own."""
    if roles[KEPT] and table.names is None:
        raise UserError(
            f"{table.path}: --keep needs the names of columns, but its first line is taken for values; say --header "
            "yes if it has the names, or write a line of names above it"
        )
    for name in kept_names(table, roles):
        if role_of(name) in {*ColumnNames._fields, *SINGULAR} or "/" in name or name == ".":
            raise UserError(f"{table.path}: no data set can be called {name!r} beside the inputs; rename the column")


def kept_names(table: Table, roles: Roles) -> dict[str, int]:
    """Return the columns that are kept, by name, with their numbers."""
    return {(table.names or ())[index]: index for index in roles[KEPT]}


def kept_columns(block: TableBlock, names: dict[str, int], dtypes: dict[str, str]) -> dict[str, Array]:
    """Return the columns that are kept, of a block of rows."""
    found = {}
    for name, index in names.items():
        cells = block.columns[index]
        values = encoded(cells) if dtypes[name].startswith("S") else _as_numbers(cells)
        found[name] = np.array(values, dtypes[name])
    return found

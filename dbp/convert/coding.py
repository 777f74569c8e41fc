"""The coding of a table's columns as numbers, kept in the data file, so that later tables are coded alike."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from dbp.convert.scan import DATES, NUMBERS, WORDS, Cells
from dbp.convert.values import DAY, INFINITE, as_texts, date_or_none, finite_number, is_number, numbers
from dbp.data.meaning import listed, texts
from dbp.data.scaling import SHOWN_LETTERS
from dbp.errors import UserError
from dbp.types import Array

ORDERED, CLASSES, TEXTS = "ordered", "classes", "texts"
KINDS = (NUMBERS, DATES, WORDS, ORDERED, CLASSES, TEXTS)


@dataclass(frozen=True)
class ColumnCoding:
    """How the cells of one column become numbers.

    Args:
        name: of the column in the table; None if the table has no header.
        place: its index in a table without a header, as the data file names it.
        kind: `numbers`; `dates`, days since the origin; `words`, a column of 0 and 1 for each word; `ordered` and
            `classes`, the number of the word in their list; `texts`, the names of the examples, as they are.
        words: those of `words`, `ordered` and `classes`.
        origin: the day from which dates count, such as 2019-03-01.
        pattern: how dates are written, if not in a usual way.
        mean: of the numbers in the table from which the coding is.
        fill: stands for values that are missing; None if none may be. Words that are missing get zeros.
    """

    name: str | None
    place: int
    kind: str = NUMBERS
    words: tuple[str, ...] = ()
    origin: str = "1970-01-01"
    pattern: str | None = None
    mean: float | None = None
    fill: float | None = None

    @property
    def width(self) -> int:
        """Return the number of columns of the data file that it becomes."""
        return len(self.words) if self.kind == WORDS else 1

    @property
    def label(self) -> str:
        """Return the name, or the number if it has none."""
        return str(self.place) if self.name is None else self.name

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns of the data file."""
        return [f"{self.label}={word}" for word in self.words] if self.kind == WORDS else [self.label]

    @property
    def units(self) -> list[str]:
        """Return the units of the columns of the data file, as far as they are known."""
        return [f"days since {self.origin}" if self.kind == DATES else ""] * self.width

    @property
    def note(self) -> str:
        """Return in words how the cells became numbers, if that needs words."""
        if self.kind == DATES:
            return f"{self.label}: days since {self.origin}"
        if self.kind == ORDERED:
            return f"{self.label}: " + listed([f"{word} = {number}" for number, word in enumerate(self.words)])
        return (
            f"{self.label}: one column for each of {listed([repr(word) for word in self.words])}"
            if self.kind == WORDS
            else ""
        )

    def encode(self, cells: Cells, missing: Collection[str]) -> Array:
        """Return cells as numbers (rows, width), NaN where they are missing.

        Raises:
            BadCellError: a cell cannot be coded so.
        """
        if isinstance(cells, np.ndarray):
            if self.kind in (NUMBERS, DATES):
                return self._encode_array(cells)[:, None]
            cells = as_texts(cells)
        if self.kind == NUMBERS:
            if (found := numbers(cells)) is None:
                found = self._each(cells, missing, finite_number)
            return found[:, None]
        if self.kind == DATES:
            return self._days(self._each(cells, missing, lambda cell: date_or_none(cell, self.pattern)))[:, None]
        numbered = {word: index for index, word in enumerate(self.words)}
        indices = self._each(cells, missing, numbered.get)
        if self.kind != WORDS:
            return indices[:, None]
        coded = np.asarray(indices[:, None] == np.arange(len(self.words)), np.float64)
        coded[np.isnan(indices)] = np.nan
        return coded

    def _each(self, cells: Sequence[str], missing: Collection[str], code: Any) -> Array:
        codes: dict[str, float] = {}
        for text in dict.fromkeys(cells):  # in their order, so that the first bad one is named
            found = math.nan if text in missing else code(text)
            if found is None:
                raise BadCellError(cells.index(text), f"{text[:SHOWN_LETTERS]!r} is {self._rule(text)}")
            codes[text] = found
        return np.fromiter((codes[cell] for cell in cells), np.float64, len(cells))

    def _rule(self, text: str) -> str:
        if self.kind == NUMBERS and is_number(text):
            return INFINITE
        if self.kind in (NUMBERS, DATES):
            return "not a number" if self.kind == NUMBERS else "not a date"
        of = "the classes" if self.kind == CLASSES else f"the words of column {self.label!r}:"
        return f"none of {of} {listed(self.words)}"

    def _encode_array(self, cells: Array) -> Array:
        if (cells.dtype.kind == "M") != (self.kind == DATES):
            raise BadCellError(0, f"column {self.label!r} has {cells.dtype}, but must have {self.kind}")
        if self.kind == NUMBERS:
            if (infinite := np.isinf(cells)).any():
                row = int(infinite.argmax())
                raise BadCellError(row, f"{cells[row]} in column {self.label!r} is {INFINITE}")
            return cells
        found = cells.astype("datetime64[us]").astype(np.int64).astype(np.float64)
        found[np.isnat(cells)] = np.nan
        return self._days(found)

    def _days(self, moments: Array) -> Array:
        days: Array = (moments - microseconds(self.origin)) / DAY
        return days

    def filled(self, values: Array) -> Array:
        """Return values with what stands for those that are missing; words get zeros."""
        return (
            values
            if self.fill is None
            else np.where(np.isnan(values), 0.0 if self.kind == WORDS else self.fill, values)
        )


def microseconds(day: str) -> int:
    """Return the microseconds from 1970 of the beginning of a day."""
    return int(np.datetime64(day, "us").astype(np.int64))


class BadCellError(Exception):
    """A cell that cannot be coded: its row in the block, and why."""

    def __init__(self, row: int, reason: str):
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True)
class TableCoding:
    """The coding of a table: that of its columns, by what they become.

    Args:
        columns: of inputs, targets, weights and the names of the examples.
        missing_texts: those that say that a value is missing, besides the usual ones.
    """

    columns: dict[str, tuple[ColumnCoding, ...]] = field(default_factory=dict)
    missing_texts: tuple[str, ...] = ()

    @property
    def has_names(self) -> bool:
        """Return True if the columns of the table have names."""
        return any(one.name is not None for found in self.columns.values() for one in found)

    def to_json(self) -> str:
        """Return the coding as text, as it is kept in the data file."""
        columns = {name: [asdict(one) for one in found] for name, found in self.columns.items()}
        return json.dumps({"columns": columns, "missing_texts": self.missing_texts})

    @classmethod
    def from_json(cls, text: str) -> TableCoding:
        """Return the coding that to_json() has written; raise UserError if it has not."""
        try:
            found = json.loads(text)
            columns = {str(name): tuple(map(_column, given)) for name, given in found["columns"].items()}
            return cls(columns, texts(found["missing_texts"]))
        except (ValueError, TypeError, AttributeError, RecursionError, KeyError) as error:
            raise UserError(
                f"its attribute table was not written by dbp convert, or by another version of it ({error})"
            ) from None


TYPES: dict[str, Any] = {
    "name": (str, type(None)),
    "place": int,
    "kind": str,
    "words": list,
    "origin": str,
    "pattern": (str, type(None)),
    "mean": (float, int, type(None)),
    "fill": (float, int, type(None)),
}


def _column(values: dict[str, Any]) -> ColumnCoding:
    found = {one.name: values[one.name] for one in fields(ColumnCoding)}
    for name, value in found.items():
        if not isinstance(value, TYPES[name]):
            raise TypeError(f"{name} is {value!r}")
    if found["kind"] not in KINDS or not all(isinstance(word, str) for word in found["words"]):
        raise ValueError(f"{found['name']!r} has kind {found['kind']!r}")
    microseconds(found["origin"])
    return replace(ColumnCoding(**found), words=tuple(found["words"]))

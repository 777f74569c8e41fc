"""Read tables of text, plain or packed by gzip, in blocks of rows."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from dbp.convert.content import Content
from dbp.convert.opening import unpacked
from dbp.convert.roles import TableBlock, TableOptions, is_index
from dbp.convert.table import from_table
from dbp.convert.values import MISSING, is_number
from dbp.data.meaning import listed
from dbp.errors import UserError
from dbp.text import count_text

MAX_LINE = 1 << 26  # characters
BLOCK_CELLS, MAX_BLOCK_ROWS = 1 << 18, 1 << 12  # that are held as texts at a time
DELIMITERS = "\t;|, "  # those that are tried, the surest first
SAMPLE_LINES = 20  # that show which it is
Row = tuple[int, list[str]]  # the number of the line on which it ends, and its cells


@dataclass(frozen=True)
class TextFormat:
    """How a table is written.

    Args:
        delimiter: the character between values; None to find it.
        header: whether the first line has the names of the columns; None to find out.
        decimal: what stands before the decimals.
        encoding: that of its texts.
    """

    delimiter: str | None = None
    header: bool | None = None
    decimal: str = "."
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise UserError(
                f"the delimiter must be one character, such as ',' or a tab, but is {self.delimiter!r}; leave it out "
                "to have it found"
            )
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError):
            raise UserError(f"--encoding takes one that Python knows, such as cp1252, not {self.encoding!r}") from None


def from_csv(path: Path, options: TableOptions | None = None, text: TextFormat | None = None) -> Content:
    """Return the data set in a table of text.

    Args:
        path: the file.
        options: what its columns become.
        text: how it is written.

    Raises:
        UserError: the file is missing, damaged or no such table; names the line.
    """
    options, text = options or TableOptions(), text or TextFormat()
    if options.like is not None and text.header is None:
        text = replace(text, header=options.like.has_names)
    return from_table(CsvTable(path, text, options.mentioned, options.targets), options)


class CsvTable:
    """A table of text.

    Args:
        path: the file.
        text: how it is written.
        mentioned: columns that the user has named, which show that there is a header.
        targets: those of them, by name or number, that are targets.

    Raises:
        UserError: the file is missing, damaged or no such table; names the line.
    """

    row_word, is_text = "line", True

    def __init__(
        self,
        path: Path,
        text: TextFormat,
        mentioned: Sequence[str],
        targets: Sequence[str],
    ):
        self.path, self._decimal = path, text.decimal
        self._encoding = "utf-8-sig" if text.encoding == "utf-8" else text.encoding
        self._delimiter = text.delimiter or _find_delimiter(path, self._encoding)
        with self._rows() as rows:
            start = [self._plain(row) for _, row in itertools.islice(rows, 2)]
        first = start[0] if start else [""]
        self.width, self.shown = len(first), f"its first line has {listed(first)}"
        named = [name for name in mentioned if name in first and not is_index(name, self.width)]
        has_header = text.header
        if has_header is None:
            indices = {int(name) % self.width for name in targets if is_index(name, self.width)}
            has_header = bool(named) or _has_header(path, start, indices)
        self._has_header = has_header
        self.names: Sequence[str] | None = None
        if has_header:  # a column without a name has its number
            self.names = [name or str(index) for index, name in enumerate(first)]

    def blocks(self, indices: Sequence[int]) -> Iterator[TableBlock]:
        """Yield the cells of consecutive rows, of the columns of the given numbers."""
        most = max(1, min(MAX_BLOCK_ROWS, BLOCK_CELLS // self.width))
        with self._rows() as rows:
            if self._has_header:
                next(rows, None)
            while block := list(itertools.islice(rows, most)):
                lines, cells = zip(*block, strict=True)
                columns = list(zip(*cells, strict=True))
                yield TableBlock(lines, {index: self._plain(columns[index]) for index in indices})

    def _plain(self, cells: Sequence[str]) -> Sequence[str]:
        """Return cells with a point in numbers that are written with another sign."""
        if self._decimal == "." or not any(self._decimal in cell for cell in cells):
            return cells
        number = re.compile(rf"\s*[+-]?\d*{re.escape(self._decimal)}\d*(e[+-]?\d+)?\s*", re.IGNORECASE)
        return [cell.replace(self._decimal, ".") if number.fullmatch(cell) else cell for cell in cells]

    @contextmanager
    def _rows(self) -> Iterator[Iterator[Row]]:
        with unpacked(self.path) as file, io.TextIOWrapper(file, self._encoding, newline="") as text:
            yield _rows(self.path, text, self._delimiter)


def _rows(path: Path, text: TextIO, delimiter: str) -> Iterator[Row]:
    """Yield the cells of each row, and the number of the line on which it ends."""
    width = 0
    reader = csv.reader(_lines(path, text), delimiter=delimiter)
    with _reading_text(path):
        for found in reader:
            row = [cell for cell in found if cell] if delimiter == " " else found
            if not row:
                continue
            width = width or len(row)
            if len(row) != width:
                raise UserError(
                    f"{path}, line {reader.line_num}: {count_text(len(row), 'value')}, but the first line has {width}"
                )
            yield reader.line_num, [cell.strip() for cell in row]


@contextmanager
def _reading_text(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise UserError(
            f"{path} is not a table of text: {error}; if it is one, name its encoding, such as --encoding cp1252"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path} is not a table of text: {error}") from None


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise UserError(f"{path} is not a table of text: a line has {MAX_LINE:,} characters or more")
        if "\0" in line:
            raise UserError(f"{path}, line {number}: holds a zero byte; is it a table of text?")
        yield line


def _find_delimiter(path: Path, encoding: str) -> str:
    """Return the delimiter that cuts the first lines into the same number of values, more than one."""
    with unpacked(path) as file, io.TextIOWrapper(file, encoding, newline="") as text, _reading_text(path):
        sample = list(itertools.islice(_lines(path, text), SAMPLE_LINES))
    widths = {delimiter: _widths(sample, delimiter) for delimiter in DELIMITERS}
    return next((delimiter for delimiter, found in widths.items() if len(found) == 1 and max(found) > 1), ",")


def _widths(lines: Sequence[str], delimiter: str) -> set[int]:
    """Return how many values lines have if they are cut by a delimiter; nothing if they cannot be."""
    try:
        rows = [[cell for cell in row if cell or delimiter != " "] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error:  # a value would be too long
        return set()
    return {len(row) for row in rows if row}


def _has_header(path: Path, start: Sequence[Sequence[str]], targets: set[int]) -> bool:
    """Return True if the first row has the names of the columns.

    Raises:
        UserError: the first two rows do not tell.
    """
    first = start[0] if start else []
    words = {i for i, cell in enumerate(first) if cell not in MISSING and not is_number(cell)}
    numbers = {i for i, cell in enumerate(first) if is_number(cell)}
    if not words - targets:
        return False
    if not numbers or any(is_number(start[1][i]) for i in words if len(start) > 1):
        return True
    has_commas = any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in first)
    raise UserError(
        f"{path}: the first line has words and numbers ({listed(first)}), so that it could be names or values; say "
        "--header yes or --header no" + ", and --decimal , if commas stand before decimals" * has_commas
    )

"""Conversion to HDF5 from IDX (the MNIST family) and CSV tables, plain or gzip, and from NumPy archives.

Nothing in a file is trusted: whatever it holds, it is converted, or refused with one line.
"""

from __future__ import annotations

import array
import csv
import gzip
import io
import itertools
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import h5py
import numpy as np

from dbp.data.dataset import SHOWN_LETTERS, check_columns
from dbp.data.meaning import listed
from dbp.data.npz import Archive
from dbp.data.output import OutputFile
from dbp.errors import UserError
from dbp.files import PIECE_BYTES, check_fits_memory, check_is_file, reading_from
from dbp.text import is_digits
from dbp.types import Array

GZIP = b"\x1f\x8b"  # at the start of a packed file
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_AXES = 32  # of HDF5
MAX_LINE = 1 << 26  # characters of a table
Stream = gzip.GzipFile | io.BufferedReader
EXACT = 2**53  # up to here, float64 holds every integer


@dataclass(frozen=True)
class Converted:
    """The columns of a data set that was read from another format.

    Args:
        columns: inputs, targets and perhaps weights.
        names: for each column that has them, the names of its elements along the last axis.
        classes: the name of each class number; empty if the targets are numbers; None if that is not known.
    """

    columns: Mapping[str, Array]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Sequence[str] | None = None


def write_hdf5(path: Path, data: Converted, files: Sequence[Path], source: str, overwrite: bool) -> int:
    """Write the columns of a data set, whole or not at all; return the number of examples.

    Each column is contiguous, so that ranks can map it into memory. Inputs of bytes get the attribute
    `scale` = 1/255, which brings them to 0 ... 1 when they are used.

    Args:
        path: the file to write.
        data: the data set.
        files: those that it was read from.
        source: what the attribute `source` of the file says.
        overwrite: whether a file of that name may be replaced.

    Raises:
        UserError: the columns do not fit together, the file exists, or it is one of those that were read.
        StorageError: the file cannot be written.
    """
    columns = data.columns
    check_columns(", ".join(map(str, files)), columns)
    attributes: dict[str, dict[str, object]] = {name: {} for name in ("/", *columns)}
    attributes["/"]["source"] = os.fsencode(source).decode(errors="replace")
    if columns["inputs"].dtype == np.uint8:
        attributes["inputs"]["scale"] = 1 / 255
    for name, names in data.names.items():
        attributes[name]["names"] = np.array(names, h5py.string_dtype())
    if data.classes is not None:
        attributes["targets"]["classes"] = np.array(data.classes, h5py.string_dtype())  # which may be empty
    with OutputFile(path, overwrite, files) as file:
        file.create()
        file.write_all(columns, attributes)
        file.commit()
    return len(columns["inputs"])


@contextmanager
def _unpacked(path: Path) -> Iterator[Stream]:
    """Open a file; it is unpacked while it is read if its first bytes, not its name, are those of gzip."""
    with reading_from(path):
        check_is_file(path, str(path))
        file = path.open("rb")
    with file:
        try:
            is_packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_packed else file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be unpacked: {error}") from None
        except OSError:
            with reading_from(path):
                raise
        except MemoryError:
            raise UserError(f"{path} takes more memory than there is; take a part of it") from None


# --- IDX and NumPy ------------------------------------------------------------------------------------


def read_idx(path: Path) -> Array:
    """Read the array in an IDX file: two zero bytes, type, number of axes, their lengths, the values."""
    with _unpacked(path) as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES:
            raise UserError(f"{path} is not an IDX file: it starts with {start.hex(' ') or 'nothing'}")
        kind, axes = np.dtype(IDX_TYPES[start[2]]), start[3]
        if not 0 < axes <= MAX_AXES:
            raise UserError(f"{path}: an IDX file must have from 1 to {MAX_AXES} axes, but it has {axes}")
        lengths = file.read(4 * axes)
        if len(lengths) < 4 * axes:
            raise UserError(f"{path} is cut short: its header of {axes} axes needs {4 + 4 * axes} bytes")
        shape = struct.unpack(f">{axes}I", lengths)
        return _values(path, file, shape, kind).astype(kind.newbyteorder("="), copy=False)


def _values(path: Path, file: Stream, shape: tuple[int, ...], kind: np.dtype[np.generic]) -> Array:
    """Read the values of an array, which must be all that follows."""
    if 0 in shape:
        raise UserError(f"{path}: holds no numbers, as its shape is {shape}")
    expected = math.prod(shape) * kind.itemsize
    check_fits_memory(expected, f"{path}: shape {shape}")
    content = np.empty(expected, np.uint8)
    done = 0
    while done < expected and (count := file.readinto(content[done : done + PIECE_BYTES].data)):
        done += count
    if done < expected or file.read(1):
        follow = f"{done}" if done < expected else "more"
        raise UserError(f"{path}: shape {shape} needs {expected} bytes, but {follow} follow")
    return content.view(kind).reshape(shape)


def from_idx(images: Path, labels: Path) -> Converted:
    """Return the columns of a pair of IDX files."""
    return Converted({"inputs": read_idx(images), "targets": read_idx(labels)})


def from_npz(path: Path, inputs: str, targets: str, weights: str | None) -> Converted:
    """Return the columns of a NumPy archive, by the names of its arrays."""
    archive = Archive(path, str(path), "fiub")
    names = {"inputs": inputs, "targets": targets} | ({} if weights is None else {"weights": weights})
    for name in names.values():
        if name not in archive.names:
            raise UserError(
                f"{path} has no array {name!r}; it has {listed(archive.names)}: "
                "name the right ones with --inputs, --targets and --weights"
            )
    return Converted({column: archive.read(name) for column, name in names.items()})


# --- tables -------------------------------------------------------------------------------------------


def from_csv(path: Path, target: str | None, delimiter: str, classes: Sequence[str] | None = None) -> Converted:
    """Return the columns of a table: one column is the target, all others are inputs.

    Args:
        path: text file, with or without a line of column names.
        target: name or number (from 0, negative from the end) of the target's column; by default the last.
        delimiter: character between values.
        classes: the names of the classes in the order of their numbers; by default targets that are no numbers are
            classes, in the order of their names.

    Raises:
        UserError: the file is missing, damaged or no such table; names the line.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise UserError(f"the delimiter must be one character, such as ',' or a tab, but is {delimiter!r}")
    with _unpacked(path) as file:
        rows = _rows(path, file, delimiter)
        first_line, first = next(rows, (0, [""]))
        if len(first) < 2:
            raise UserError(f"{path} needs at least two columns, inputs and a target, separated by {delimiter!r}")
        column, has_header = _target_column(path, first, target)
        values, words, lines = array.array("d"), [], []
        for line, row in rows if has_header else itertools.chain([(first_line, first)], rows):
            words.append(row.pop(column))
            lines.append(line)
            values.extend(_numbers(path, line, row))
    if not words:
        raise UserError(f"{path} has no rows of numbers")
    names = {}
    if has_header:
        names = {"inputs": [*first[:column], *first[column + 1 :]], "targets": [first[column]]}
    targets, found = _targets(path, lines, words, classes)
    return Converted({"inputs": np.frombuffer(values).reshape(len(words), -1), "targets": targets}, names, found)


def _rows(path: Path, file: Stream, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row, and the number of the line on which it ends."""
    width = 0
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        try:
            reader = csv.reader(_lines(path, text), delimiter=delimiter)
            for cells in reader:
                row = [cell.strip() for cell in cells]
                if any("\0" in cell for cell in row):
                    raise UserError(f"{path}, line {reader.line_num}: holds a zero byte; is it a table of text?")
                width = width or len(row)
                if row and len(row) != width:
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(row)} values, but the first line has {width}"
                    )
                if row:
                    yield reader.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is not a table of text: {error}") from None


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise UserError(f"{path} is not a table of text: a line has {MAX_LINE:,} characters or more")
        yield line


def _number(cell: str) -> float:
    """Return the number in a cell; raise ValueError if it is none. Python's 1_000 is none."""
    return float("no number" if "_" in cell else cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, line: int, row: Sequence[str]) -> list[float]:
    try:
        return [_number(cell) for cell in row]
    except ValueError:
        wrong = next(cell for cell in row if not _is_number(cell))
        raise UserError(f"{path}, line {line}: {wrong[:SHOWN_LETTERS]!r} is not a number") from None


def _target_column(path: Path, first: Sequence[str], target: str | None) -> tuple[int, bool]:
    """Return the number of the target's column, and whether the first row has the names of the columns."""
    number = -1 if target is None else int(target) if is_digits(target.removeprefix("-")) else None
    if number is not None and -len(first) <= number < len(first):
        column = number % len(first)
        return column, not all(_is_number(cell) for i, cell in enumerate(first) if i != column)
    if target not in first:
        raise UserError(f"{path} has no column {target!r}; its first line has {listed(first)}")
    if first.count(target) > 1:
        raise UserError(f"{path} has {first.count(target)} columns {target!r}; give the number of one, from 0")
    return first.index(target), True


def _targets(
    path: Path, lines: Sequence[int], words: Sequence[str], classes: Sequence[str] | None
) -> tuple[Array, Sequence[str]]:
    """Return the targets, and the names of the classes; none if the targets are numbers."""
    if classes is None and all(_is_number(word) for word in words):
        numbers = np.array([_number(word) for word in words])
        whole = (np.abs(numbers) <= EXACT).all() and (numbers == np.floor(numbers)).all()
        return (numbers.astype(np.int64) if whole else numbers), []
    if "" in words:
        raise UserError(f"{path}, line {lines[words.index('')]}: the target is missing; write it, or drop the line")
    found = sorted(set(words)) if classes is None else list(classes)
    places = {name: number for number, name in enumerate(found)}
    for line, word in zip(lines, words, strict=True):
        if word not in places:
            shown = word[:SHOWN_LETTERS]
            raise UserError(f"{path}, line {line}: the target {shown!r} is none of the classes {listed(found)}")
    return np.array([places[word] for word in words], np.int64), found


def parse_classes(text: str) -> list[str]:
    """Return the names in a text such as ant,bee; raise UserError unless they are different ones."""
    names = [] if re.search("[\0\r\n]", text) else [name.strip() for name in next(csv.reader([text]), [])]
    if not names or len(set(names)) < len(names) or not all(names):
        raise UserError(f"classes must be different names with commas between them, but are {text!r}")
    return names

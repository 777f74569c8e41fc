"""Conversion to HDF5 from IDX (the MNIST family), CSV tables and NumPy archives; plain or gzip."""

from __future__ import annotations

import csv
import gzip
import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dbp.data.dataset import check_columns
from dbp.data.output import OutputFile
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.types import Array

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def write_hdf5(path: Path, columns: dict[str, Array | None], attributes: dict[str, Any], overwrite: bool) -> int:
    """Write the columns of a data set, whole or not at all; return the number of examples.

    Each column is contiguous, so that ranks can map it into memory. Inputs of bytes get the attribute
    `scale` = 1/255, which brings them to 0 ... 1 when they are used.
    """
    check_columns(str(path), *(columns.get(name) for name in ("inputs", "targets", "weights")))
    inputs = columns["inputs"]
    assert inputs is not None
    scale = {"scale": 1 / 255} if inputs.dtype == np.uint8 else {}
    with OutputFile(path, overwrite) as file:
        file.create()
        stored = {name: column for name, column in columns.items() if column is not None}
        file.write_all(stored, {"/": attributes, "inputs": scale})
        file.commit()
    return len(inputs)


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked if its first bytes, not its name, are those of gzip."""
    with reading_from(path):
        content = path.read_bytes()
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked: {error}") from None


def read_idx(path: Path) -> Array:
    """Read the array in an IDX file: two zero bytes, type, number of axes, their lengths, the values."""
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise UserError(f"{path} is not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}")
    kind, axes = np.dtype(IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise UserError(f"{path} is cut short: its header of {axes} axes needs {start} bytes")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = math.prod(shape) * kind.itemsize
    if len(content) - start != expected:
        raise UserError(f"{path}: shape {shape} needs {expected} bytes, but {len(content) - start} follow")
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def from_idx(images: Path, labels: Path) -> dict[str, Array | None]:
    """Return the columns of a pair of IDX files."""
    return {"inputs": read_idx(images), "targets": read_idx(labels)}


def from_npz(path: Path, inputs: str, targets: str, weights: str | None) -> dict[str, Array | None]:
    """Return the columns of a NumPy archive, by the names of its arrays."""
    try:
        with np.load(io.BytesIO(_content(path)), allow_pickle=False) as archive:
            names = {"inputs": inputs, "targets": targets, "weights": weights}
            for name in names.values():
                if name is not None and name not in archive:
                    raise UserError(
                        f"{path} has no array {name!r}; it has {', '.join(archive)}: "
                        "name the right ones with --inputs, --targets and --weights"
                    )
            return {column: None if name is None else archive[name] for column, name in names.items()}
    except (ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not an npz archive of plain arrays: {error}") from None


def from_csv(path: Path, target: str | None, delimiter: str) -> tuple[dict[str, Array | None], list[str]]:
    """Return the columns of a table: one column is the target, all others are inputs.

    Args:
        path: text file, with or without a line of column names.
        target: name or number (from 0, negative from the end) of the target's column; by default the last.
        delimiter: character between values.

    Returns:
        The columns, and the class names if the targets are words (they become 0, 1, ... in sorted order).
    """
    rows, lines = _table(path, delimiter)
    column = _column_number(target, len(rows[0]))
    has_header = column is None or not all(_is_number(cell) for i, cell in enumerate(rows[0]) if i != column)
    if column is None:
        if target not in rows[0]:
            raise UserError(f"{path} has no column {target!r}; its first line has {', '.join(rows[0])}")
        column = rows[0].index(target)
    if has_header:
        del rows[0], lines[0]
    if not rows:
        raise UserError(f"{path} has no rows of numbers")
    words = [row.pop(column) for row in rows]
    try:
        inputs = np.array([[float(cell) for cell in row] for row in rows])
    except ValueError:
        where = next((i, c) for i, row in enumerate(rows) for c in row if not _is_number(c))
        raise UserError(f"{path}, line {lines[where[0]]}: {where[1]!r} is not a number") from None
    targets, classes = _targets(words)
    return {"inputs": inputs, "targets": targets}, classes


def _table(path: Path, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of cells, and for each the number of the line on which it ends."""
    rows, lines = [], []
    try:
        reader = csv.reader(io.StringIO(_content(path).decode("utf-8-sig")), delimiter=delimiter)
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table of text: {error}") from None
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise UserError(f"{path}, line {line}: {len(row)} values, but the first line has {len(rows[0])}")
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{path} needs at least two columns, inputs and a target, separated by {delimiter!r}")
    return rows, lines


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column_number(target: str | None, width: int) -> int | None:
    """Return the number of the target's column, or None if it is given by name."""
    if target is None:
        return width - 1
    if target.lstrip("-").isdigit() and -width <= int(target) < width:
        return int(target) % width
    return None


def _targets(words: list[str]) -> tuple[Array, list[str]]:
    """Return the targets, class numbers if they are words, and the sorted names of the classes, if any."""
    if all(_is_number(word) for word in words):
        numbers = np.array([float(word) for word in words])
        whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
        return (numbers.astype(np.int64) if whole else numbers), []
    classes, indices = np.unique(words, return_inverse=True)
    return indices.astype(np.int64), [str(name) for name in classes]

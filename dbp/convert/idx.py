"""Read IDX files, the format of the MNIST family, in blocks of rows."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dbp.convert.content import Block, ColumnShape, Content, row_bytes, rows_per_block
from dbp.convert.opening import Stream, unpacked
from dbp.errors import UserError
from dbp.files import check_fits_memory
from dbp.text import count_text
from dbp.types import Array

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_AXES = 32  # of HDF5


def from_idx(images: Path, labels: Path) -> Content:
    """Return the data set in a pair of IDX files."""
    paths = {"inputs": images, "targets": labels}
    heads = {}
    for name, path in paths.items():
        with unpacked(path) as file:
            heads[name] = _head(path, file)
    inputs, targets = (heads[name].shape for name in paths)
    if inputs[0] != targets[0]:
        raise UserError(
            f"{images}, {labels}: every column needs one row per example; inputs have {count_text(inputs[0], 'row')} "
            f"and targets have {targets[0]}"
        )
    return Content(_blocks(paths, heads), inputs[0], files=(images, labels))


def _head(path: Path, file: Stream) -> ColumnShape:
    """Read shape and type from the start: two zero bytes, type, number of axes, their lengths; then come the values."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise UserError(f"{path} is not an IDX file: it starts with {start.hex(' ') or 'nothing'}")
    kind, axes = np.dtype(TYPES[start[2]]), start[3]
    if not 0 < axes <= MAX_AXES:
        raise UserError(f"{path}: an IDX file must have from 1 to {MAX_AXES} axes, but it has {axes}")
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise UserError(f"{path} is cut short: its header of {axes} axes needs {4 + 4 * axes} bytes")
    shape = struct.unpack(f">{axes}I", lengths)
    if 0 in shape:
        raise UserError(f"{path}: holds no numbers, as its shape is {shape}")
    check_fits_memory(row_bytes(shape, kind), f"{path}: a row of shape {shape[1:]}")
    return ColumnShape(shape, kind)


def _blocks(paths: dict[str, Path], heads: dict[str, ColumnShape]) -> Iterator[Block]:
    count = heads["inputs"].shape[0]
    rows = rows_per_block(*(row_bytes(*head) for head in heads.values()))
    with ExitStack() as files:
        streams = {name: files.enter_context(unpacked(path)) for name, path in paths.items()}
        if {name: _head(paths[name], stream) for name, stream in streams.items()} != heads:
            raise UserError(f"{paths['inputs']} or {paths['targets']} was replaced while it was read; convert it again")
        for start in range(0, count, rows):
            taken = min(rows, count - start)
            yield {name: _values(paths[name], streams[name], head, start, taken) for name, head in heads.items()}
        for name, stream in streams.items():
            if stream.read(1):
                raise _wrong_length(paths[name], heads[name], "more")


def _values(path: Path, file: Stream, head: ColumnShape, start: int, count: int) -> Array:
    """Read rows of an array."""
    size = row_bytes(*head)
    content = np.empty(count * size, np.uint8)
    done = 0
    while done < len(content) and (taken := file.readinto(content[done:].data)):
        done += taken
    if done < len(content):
        raise _wrong_length(path, head, f"{start * size + done}")
    return content.view(head.dtype).reshape(count, *head.shape[1:]).astype(head.dtype.newbyteorder("="), copy=False)


def _wrong_length(path: Path, head: ColumnShape, follow: str) -> UserError:
    needed = math.prod(head.shape) * head.dtype.itemsize
    return UserError(f"{path}: shape {head.shape} needs {needed} bytes, but {follow} follow")

"""Event files of TensorBoard: records with checksums, each of which is a message in the wire format of protobuf.

A record is a length, a checksum of it, a message, and a checksum of that, as tensorflow/core/lib/io/record_writer.h
describes it. The messages are those of tensorboard/compat/proto/event.proto and summary.proto, of which a few fields
are enough, so that neither library is needed.
"""

from __future__ import annotations

import functools
import math
import struct
import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO, TypeVar

import numpy as np

from dbp.types import Array

VERSION = b"brain.Event:2"
POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits reversed
MASK_DELTA = 0xA282EAD8  # of a checksum that lies in what it is a checksum of
WALL_TIME, STEP, FILE_VERSION, SUMMARY, SESSION_LOG = 1, 2, 3, 5, 7  # fields of an Event
VALUE, TAG, SIMPLE_VALUE = 1, 1, 2  # of a Summary, and of its values
STATUS, STARTED = 1, 1  # of a SessionLog
NUMBER, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # forms of a field
LENGTH, CHECKSUM, FLOATS = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<f")
Content = TypeVar("Content", int, bytes)
FRAME = LENGTH.size + 2 * CHECKSUM.size  # bytes of a record besides its message
MOST_BYTES = 1 << 24  # of a message


def checksum(data: bytes) -> int:
    """Return the masked CRC-32C of at least four bytes (RFC 3720, appendix B.4).

    A CRC is linear: each byte adds a part that depends on itself and on how many follow. So NumPy can look up all parts
    at once, where a loop in Python over the bytes would take ten times as long.
    """
    found = np.frombuffer(data, np.uint8).copy()
    found[:4] ^= 0xFF  # the register, all ones at first
    parts = _parts(1 << (len(data) - 1).bit_length())
    crc = int(np.bitwise_xor.reduce(parts[np.arange(len(data) - 1, -1, -1), found])) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _parts(most: int) -> Array:
    """Return the part that a byte adds to a CRC, by the number of bytes behind it, below `most`, and by its value."""
    parts = np.zeros((most, 256), np.uint32)
    parts[0] = np.arange(256)
    for _ in range(8):
        parts[0] = parts[0] >> 1 ^ np.where(parts[0] & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    for behind in range(1, most):
        before = parts[behind - 1]
        parts[behind] = parts[0][before & 0xFF] ^ before >> 8
    return parts


# --- writing ------------------------------------------------------------------------------------------


def record(message: bytes) -> bytes:
    """Return a message with its length and checksums."""
    length = LENGTH.pack(len(message))
    return length + CHECKSUM.pack(checksum(length)) + message + CHECKSUM.pack(checksum(message))


def first_records(step: int) -> bytes:
    """Return the first records of a file, which have TensorBoard forget what earlier files hold after a step.

    Args:
        step: the last one that stays; 0 for none.
    """
    version = _field(FILE_VERSION, BYTES, _sized(VERSION))
    session = _field(SESSION_LOG, BYTES, _sized(_field(STATUS, NUMBER, _varint(STARTED))))
    return record(_event(0) + version) + record(_event(step + 1) + session)


def scalars_record(step: int, values: Mapping[str, float]) -> bytes:
    """Return the record of some values after a step.

    Args:
        step: steps so far.
        values: by tag.
    """
    summary = b"".join([_beginning(tag) + _float(value) for tag, value in values.items()])
    return record(_event(step) + _field(SUMMARY, BYTES, _sized(summary)))


def _float(value: float) -> bytes:
    """Return a number in 32 bits: infinity, if it is too large for them."""
    try:
        return FLOATS.pack(value)
    except OverflowError:
        return FLOATS.pack(math.copysign(math.inf, value))


@functools.lru_cache(maxsize=1000)
def _beginning(tag: str) -> bytes:
    """Return the value of a Summary, up to the number itself."""
    beginning = _field(TAG, BYTES, _sized(tag.encode())) + _field(SIMPLE_VALUE, FLOAT, b"")
    return _field(VALUE, BYTES, _varint(len(beginning) + FLOATS.size)) + beginning


def _event(step: int) -> bytes:
    """Return the beginning of an Event: the time and the step."""
    return _field(WALL_TIME, DOUBLE, struct.pack("<d", time.time())) + _field(STEP, NUMBER, _varint(step))


def _field(number: int, form: int, content: bytes) -> bytes:
    return _varint(number << 3 | form) + content


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


# --- reading ------------------------------------------------------------------------------------------


def records(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a file, and the messages in them, up to one that is broken."""
    while len(head := file.read(LENGTH.size + CHECKSUM.size)) == FRAME - CHECKSUM.size:
        (size,) = LENGTH.unpack_from(head)
        if size > MOST_BYTES or CHECKSUM.unpack_from(head, LENGTH.size) != (checksum(head[: LENGTH.size]),):
            return
        rest = file.read(size + CHECKSUM.size)
        if len(rest) < size + CHECKSUM.size:
            return
        yield head + rest, rest[:size]


def step_and_tag(message: bytes) -> tuple[int, str]:
    """Return the step of an Event, and the tag of its first value; "" if it has none.

    Raises:
        ValueError: it is no Event.
    """
    step = _first(message, STEP, 0)
    tag = _first(_first(_first(message, SUMMARY, b""), VALUE, b""), TAG, b"")
    return step, tag.decode(errors="replace")


def _first(message: bytes, number: int, default: Content) -> Content:
    """Return the content of the first field with a number, or the default; ValueError if it is of another type."""
    content = next((content for found, content in _fields(message) if found == number), default)
    if not isinstance(content, type(default)):
        raise ValueError("no such field")  # noqa: TRY004  as for all that is no message
    return content


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and contents of the fields of a message; raise ValueError if it is none."""
    offset = 0
    while offset < len(message):
        key, offset = _read_varint(message, offset)
        content: int | bytes
        if key & 7 == NUMBER:
            content, offset = _read_varint(message, offset)
        else:
            size = {DOUBLE: 8, FLOAT: 4}.get(key & 7, -1)
            if key & 7 == BYTES:
                size, offset = _read_varint(message, offset)
            content, offset = message[offset : offset + size], offset + size
            if not 0 <= size == len(content):
                raise ValueError("no message")
        yield key >> 3, content


def _read_varint(message: bytes, offset: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset behind it; raise ValueError if it is broken."""
    number = 0
    for shift in range(0, 70, 7):
        if offset >= len(message):
            break
        byte, offset = message[offset], offset + 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, offset
    raise ValueError("no number")

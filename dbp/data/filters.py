"""The filters of HDF5 that are undone without HDF5: deflate, shuffle, the checksum of Fletcher, and installed codecs.

HDF5 unpacks one chunk at a time, as it has one lock. These functions release Python's lock while they work, so that a
thread unpacks chunks while its rank computes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.types import Array

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # numbers of filters in HDF5's format
BLOSC, ZSTD, BLOSC2 = 32001, 32015, 32026  # registered numbers of filters that need a package
PACKAGES = {BLOSC: "blosc2", ZSTD: "zstandard", BLOSC2: "blosc2"}  # names of packages and of their modules
BLOSC_HEADER_BYTES = 16
CHECKSUM_BYTES = 4
FLETCHER_MODULUS = 65535
WORDS_IN_A_ROW = 256  # of a chunk whose checksum is computed; its row sums stay small
INFLATED_BYTES = 1 << 17  # inflated at a time: a thread that reads ahead takes little memory of its own
READ_BYTES = INFLATED_BYTES + (1 << 12)  # read for that: enough also where packing has made them more
Read = Callable[[int, memoryview], None]  # reads bytes of a chunk from a position in it, as many as there is room for
ZLIBS = ("isal.isal_zlib", "zlib_ng.zlib_ng", "zlib")  # modules with the interface of zlib, the quickest first


class Filter(NamedTuple):
    """A filter that the chunks of a column have gone through.

    Args:
        code: its number in HDF5's format.
        width: for shuffle, the bytes of a number.
    """

    code: int
    width: int = 1


class DamagedChunkError(Exception):
    """A chunk that cannot be unpacked; the message says why."""


def can_undo(filters: Sequence[Filter]) -> bool:
    """Return True if unpack() knows all filters, and the packages that they need are installed."""
    return all(one.code in (DEFLATE, SHUFFLE, FLETCHER32) or _has_package(one.code) for one in filters)


def _has_package(code: int) -> bool:
    return code in PACKAGES and importlib.util.find_spec(PACKAGES[code]) is not None


def is_inflated(filters: Sequence[Filter], skipped: int) -> bool:
    """Return True if inflate() undoes the filters of a chunk: deflate alone, or after shuffle.

    Args:
        filters: in the order in which they were applied.
        skipped: bit i is set if this chunk has not gone through filter i.
    """
    return [one.code for one in _used(filters, skipped)] in ([DEFLATE], [SHUFFLE, DEFLATE])


def inflate(
    read: Read, stored: int, filters: Sequence[Filter], skipped: int, into: Array, size: int | None = None
) -> None:
    """Undo the filters of a chunk for which is_inflated() holds, in little memory.

    Args:
        read: reads bytes of the chunk in the file.
        stored: how many there are.
        filters: see is_inflated().
        skipped: likewise.
        into: gets the bytes of the chunk's first numbers; a flat array of bytes.
        size: the bytes of all its numbers; by default as many as `into` has.

    Raises:
        DamagedChunkError: the bytes are not those of such a chunk.
    """
    first, at = _used(filters, skipped)[0], 0
    size = len(into) if size is None else size
    for found in _inflated(read, stored, size):
        _unshuffle(found, first.width if first.code == SHUFFLE else 1, into, at, size)
        at += len(found)
    if at != size:
        raise DamagedChunkError(f"the chunk has {at:,} bytes in place of {size:,}")


def unpack(stored: Any, filters: Sequence[Filter], skipped: int, into: Array) -> None:
    """Undo the filters of a chunk.

    Args:
        stored: the bytes of the chunk in the file.
        filters: see is_inflated().
        skipped: likewise.
        into: gets the bytes of the chunk's numbers; a flat array of bytes of the right length.

    Raises:
        DamagedChunkError: the bytes are not those of such a chunk.
    """
    used = _used(filters, skipped)
    sizes = _sizes(used, len(into))
    data = np.frombuffer(stored, np.uint8)
    for number in range(len(used) - 1, -1, -1):
        one, size = used[number], sizes[number]
        if is_inflated(used[: number + 1], 0):
            inflate(_reader(data), len(data), used[: number + 1], 0, into)
            return
        if one.code == FLETCHER32:
            data = _checked(data)
        elif one.code == DEFLATE:
            data = np.concatenate([np.empty(0, np.uint8), *_inflated(_reader(data), len(data), size)])
        elif one.code in PACKAGES:
            data = _decoded(one.code, data, size)
        else:
            data, mixed = np.empty_like(data), data
            _unshuffle(mixed, one.width, data, 0, len(data))
    if len(data) != len(into):
        raise DamagedChunkError(f"the chunk has {len(data):,} bytes in place of {len(into):,}")
    into[:] = data


def _used(filters: Sequence[Filter], skipped: int) -> list[Filter]:
    return [one for number, one in enumerate(filters) if not skipped >> number & 1]


def _sizes(used: Sequence[Filter], size: int) -> list[int]:
    """Return the bytes that a chunk has before each filter; behind one that packs, the most that it can have."""
    sizes = []
    for one in used:
        sizes.append(size)
        if one.code == FLETCHER32:
            size += CHECKSUM_BYTES
        elif one.code != SHUFFLE:
            size += size // 100 + 256  # a filter is left out where it makes a chunk much larger
    return sizes


@functools.cache
def quickest_zlib() -> Any:
    """Return the quickest installed module that inflates."""
    for name in ZLIBS:
        if name in sys.modules:
            return sys.modules[name]
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("this Python has no zlib")


def _reader(data: Array) -> Read:
    """Return what reads some bytes in memory."""

    def read(start: int, into: memoryview) -> None:
        into[:] = data[start : start + len(into)].data

    return read


def _inflated(read: Read, stored: int, size: int) -> Iterator[Array]:
    """Yield the inflated bytes, at most `size`, in pieces of one size, but for the last.

    Pieces of other sizes would leave gaps in the memory of a thread that reads ahead, so that it takes much more.
    """
    library, left, done, held = quickest_zlib(), size, 0, 0
    stream, buffer = library.decompressobj(), memoryview(bytearray(min(stored, READ_BYTES)))
    while not stream.eof:
        more = min(len(buffer) - held, stored - done)
        read(done, buffer[held : held + more])
        most = min(INFLATED_BYTES, left + 1)  # one more than is left, as only then the end is checked
        try:
            found = stream.decompress(buffer[: held + more], most)
        except (library.error, ValueError) as error:
            raise DamagedChunkError(f"the chunk cannot be inflated ({error})") from None
        if len(found) > left:
            raise DamagedChunkError("the chunk cannot be inflated (it has more than its numbers)")
        if not (found or more or stream.eof):
            raise DamagedChunkError("the chunk cannot be inflated (it ends too early)")
        held, left, done = len(stream.unconsumed_tail), left - len(found), done + more
        buffer[:held] = stream.unconsumed_tail
        yield np.frombuffer(found, np.uint8)


def _decoded(code: int, data: Array, size: int) -> Array:
    """Return the bytes that a codec of an installed package has packed, at most `size`."""
    library = _package(code)
    try:
        if code == ZSTD:
            return np.frombuffer(library.ZstdDecompressor().decompress(data.data, max_output_size=size), np.uint8)
        if code == BLOSC:
            into = np.empty(_size_in_blosc(data, size), np.uint8)
            library.decompress(data.tobytes(), dst=into)
            return into
        frame = data.tobytes()
        packed = library.ndarray_from_cframe(frame) if b"b2nd" in frame else library.schunk_from_cframe(frame)
        found = packed[:] if packed.nbytes <= size else b""
        return np.frombuffer(found if isinstance(found, bytes) else found.tobytes(), np.uint8)
    except Exception as error:  # each library has exceptions of its own
        raise DamagedChunkError(f"the chunk cannot be unpacked ({error})") from None


@functools.cache
def _package(code: int) -> Any:
    """Return the module that undoes a filter, which then uses no threads of its own."""
    library = importlib.import_module(PACKAGES[code])
    if hasattr(library, "set_nthreads"):
        library.set_nthreads(1)
    return library


def _size_in_blosc(data: Array, most: int) -> int:
    """Return how many bytes a buffer of Blosc holds, by its header; raise ValueError if that does not fit."""
    header = np.zeros(BLOSC_HEADER_BYTES // 4, "<u4")
    header.view(np.uint8)[: len(data)] = data[:BLOSC_HEADER_BYTES]
    numbers, packed = int(header[1]), int(header[3])
    if not 0 < numbers <= most or packed != len(data):
        raise ValueError("its header is not that of so many bytes")
    return numbers


def _unshuffle(data: Array, width: int, into: Array, at: int, size: int) -> None:
    """Put the bytes of each number side by side; shuffle has put all first bytes first, and an odd rest at the end.

    Args:
        data: shuffled bytes.
        width: the bytes of a number.
        into: the bytes of the first numbers.
        at: the index of the first of the shuffled bytes among all of them.
        size: the number of all bytes.
    """
    count, kept = size // width, len(into) // width
    numbers = into[: width * kept].reshape(kept, width)
    while len(data) and at < width * count:  # plane by plane, in a third of the time of a transposed copy
        plane, first = divmod(at, count)
        part = data[: count - first]
        numbers[first : first + len(part), plane] = part[: max(0, kept - first)]
        data, at = data[len(part) :], at + len(part)
    into[at : at + len(data)] = data[: max(0, len(into) - at)]


def _checked(data: Array) -> Array:
    """Return the bytes before a checksum of Fletcher; raise DamagedChunkError if it is not theirs."""
    if len(data) < CHECKSUM_BYTES:
        raise DamagedChunkError("the chunk is too short for its checksum")
    content, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    first, second = fletcher32(content)
    low, high = (int(half) for half in checksum.view("<u2"))
    # HDF5 before version 1.6.3 swapped the bytes of both halves, and later versions accept it.
    for found in ((low, high), (_swapped(low), _swapped(high))):
        if [half % FLETCHER_MODULUS for half in found] == [first, second]:
            return content
    raise DamagedChunkError("the checksum of the chunk is not that of its bytes")


def fletcher32(content: Array) -> tuple[int, int]:
    """Return both sums of Fletcher (1982) over words of 16 bits, as HDF5 takes them: the higher byte first.

    The second sum weighs each word by its distance from the end. The words are put in rows, so that it follows from the
    sums of rows and columns, without a product for each word.
    """
    count = -(-len(content) // 2)
    rows = -(-count // WORDS_IN_A_ROW)
    words = np.zeros((rows, WORDS_IN_A_ROW), ">u2")
    words.reshape(-1).view(np.uint8)[: len(content)] = content
    of_rows, of_columns = words.sum(axis=1, dtype=np.uint64), words.sum(axis=0, dtype=np.uint64)
    to_end = (count - WORDS_IN_A_ROW * np.arange(rows)) % FLETCHER_MODULUS  # from the beginning of each row
    second = _product(to_end, of_rows) - _product(np.arange(WORDS_IN_A_ROW), of_columns)
    return int(of_rows.sum()) % FLETCHER_MODULUS, second % FLETCHER_MODULUS


def _product(weights: Array, totals: Array) -> int:
    """Return the inner product but for a multiple of the modulus; weights are below it."""
    return int((weights.astype(np.uint64) * (totals % np.uint64(FLETCHER_MODULUS))).sum())


def _swapped(half: int) -> int:
    return half >> 8 | (half & 255) << 8

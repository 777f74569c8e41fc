"""Filters of HDF5 that are undone without HDF5, by each library that inflates, and chunks that are damaged."""

import importlib
import sys
import zlib

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset, filters
from dbp.data.filters import (
    BLOSC,
    DEFLATE,
    FLETCHER32,
    PACKAGES,
    SHUFFLE,
    ZSTD,
    DamagedChunkError,
    Filter,
    can_undo,
    fletcher32,
    unpack,
)

NUMBERS = np.random.default_rng(0).integers(0, 99, 1000).astype(np.int32)
CONTENT = NUMBERS.view(np.uint8)
SHUFFLED = np.ascontiguousarray(CONTENT.reshape(-1, 4).T).ravel()


def unpacked(stored, *used, skipped=0):
    into = np.empty(len(CONTENT), np.uint8)
    unpack(stored, used, skipped, into)
    return into


@pytest.fixture(params=filters.ZLIBS)
def _library(request, monkeypatch):
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(filters, "quickest_zlib", lambda: module)


@pytest.mark.usefixtures("_library")
def test_each_library_inflates_the_same_and_notices_damage():
    packed = zlib.compress(SHUFFLED, 4)
    np.testing.assert_array_equal(unpacked(packed, Filter(SHUFFLE, 4), Filter(DEFLATE)), CONTENT)
    damaged = bytearray(packed)
    damaged[-1] ^= 1  # in the checksum
    longer = zlib.compress(bytes(SHUFFLED) + b"1", 4)
    for wrong in (packed[:-1], packed[:50], b"", b"no deflate", bytes(damaged), longer, zlib.compress(SHUFFLED[:-4])):
        with pytest.raises(DamagedChunkError, match="the chunk "):
            unpacked(wrong, Filter(SHUFFLE, 4), Filter(DEFLATE))


def test_filters_that_a_chunk_has_not_gone_through_are_left_out():
    used = (Filter(SHUFFLE, 4), Filter(DEFLATE))
    np.testing.assert_array_equal(unpacked(zlib.compress(CONTENT), *used, skipped=1), CONTENT)
    np.testing.assert_array_equal(unpacked(SHUFFLED, *used, skipped=2), CONTENT)
    np.testing.assert_array_equal(unpacked(CONTENT, *used, skipped=3), CONTENT)


@pytest.mark.parametrize("length", [1, 2, 3, 511, 512, 513, 70001])
def test_the_checksum_is_that_of_a_loop_over_words(length):
    content = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8)
    first = second = 0
    for word in np.append(content, np.zeros(length % 2, np.uint8)).view(">u2").tolist():
        first = (first + word) % 65535
        second = (second + first) % 65535
    assert fletcher32(content) == (first, second)


def test_a_checksum_is_checked_in_both_orders_of_its_bytes():
    checksum = np.array(fletcher32(CONTENT), "<u2")
    for stored in (checksum, checksum.byteswap()):
        np.testing.assert_array_equal(unpacked(np.append(CONTENT, stored.view(np.uint8)), Filter(FLETCHER32)), CONTENT)
    for wrong in (np.append(CONTENT, (checksum + 1).view(np.uint8)), CONTENT, CONTENT[:3]):
        with pytest.raises(DamagedChunkError):
            unpacked(wrong, Filter(FLETCHER32))


def test_filters_of_other_libraries_are_not_undone():
    assert can_undo([Filter(SHUFFLE, 4), Filter(DEFLATE), Filter(FLETCHER32)])
    assert not can_undo([Filter(DEFLATE), Filter(32000)])


def test_the_quickest_library_is_taken_and_zlib_without_another(monkeypatch):
    def missing(name):
        if name != "zlib":
            raise ImportError(name)
        return zlib

    for name in filters.ZLIBS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(importlib, "import_module", missing)
    filters.quickest_zlib.cache_clear()
    assert filters.quickest_zlib() is zlib
    filters.quickest_zlib.cache_clear()


def packed(code):
    """Return numbers as a package writes them, without HDF5."""
    module = pytest.importorskip(PACKAGES[code])
    if code == ZSTD:
        return module.ZstdCompressor().compress(CONTENT.tobytes())
    if code == BLOSC:
        return module.compress2(CONTENT.tobytes(), typesize=4)
    return module.asarray(NUMBERS.reshape(10, 100)).to_cframe()


@pytest.mark.parametrize("code", PACKAGES)
def test_codecs_of_packages_are_undone_and_damage_is_noticed(code):
    content = packed(code)
    assert can_undo([Filter(code)])
    np.testing.assert_array_equal(unpacked(content, Filter(code)), CONTENT)
    for wrong in (content[:-9], content[:10], b"", b"nothing that was packed", bytes(len(content))):
        with pytest.raises(DamagedChunkError, match="the chunk "):
            unpacked(wrong, Filter(code))
    with pytest.raises(DamagedChunkError):  # more numbers than the chunk has
        unpack(content, [Filter(code)], 0, np.empty(100, np.uint8))


@pytest.mark.parametrize("name", ["Blosc", "Blosc2", "Zstd"])
def test_chunks_that_plugins_of_hdf5_have_packed(tmp_path, name):
    plugin, numbers = pytest.importorskip("hdf5plugin"), NUMBERS.reshape(50, 20).astype(np.float32)
    pytest.importorskip("blosc2" if "Blosc" in name else "zstandard")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("inputs", data=numbers, chunks=(12, 20), **dict(getattr(plugin, name)()))
        file["targets"] = np.zeros(50)
    data = HDF5Dataset(tmp_path / "a.h5")
    assert data.layout is not None
    np.testing.assert_array_equal(data.read(np.arange(50)).inputs, numbers)

"""Filters of HDF5 that are undone without HDF5, by each library that inflates, and chunks that are damaged."""

import importlib
import sys
import zlib

import numpy as np
import pytest

from dbp.data import filters
from dbp.data.filters import DEFLATE, FLETCHER32, SHUFFLE, DamagedChunkError, Filter, can_undo, fletcher32, unpack

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
    assert not can_undo([Filter(DEFLATE), Filter(32015)])


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

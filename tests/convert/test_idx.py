"""IDX files, read block by block or refused."""

import gzip
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.convert import content
from dbp.convert.idx import from_idx
from dbp.data import HDF5Dataset
from dbp.errors import UserError
from tests.convert.files import changed, idx_bytes, write

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 2)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 1, 0], np.uint8)


def read(folder, images, labels=None):
    """Return the inputs in a pair of files, the second of which is by default one that fits."""
    (folder / "i").write_bytes(images)
    count = struct.unpack(">I", images[4:8])[0] if len(images) >= 8 else 0
    (folder / "l").write_bytes(labels or idx_bytes(np.zeros(max(1, min(count, 1000)), np.uint8)))
    return np.concatenate([block["inputs"] for block in from_idx(folder / "i", folder / "l").blocks])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_idx_plain_and_gzip(tmp_path, pack, rows, monkeypatch):
    monkeypatch.setattr(content, "BLOCK_BYTES", 7 * rows)
    (tmp_path / "i").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "l").write_bytes(pack(idx_bytes(LABELS)))
    shapes = write(tmp_path / "o.h5", from_idx(tmp_path / "i", tmp_path / "l"))
    assert [str(shape) for shape in shapes.values()] == ["uint8 5 x 3 x 2", "uint8 5"]
    data = HDF5Dataset(tmp_path / "o.h5")
    np.testing.assert_array_equal(data.read(slice(0, 5)).inputs, IMAGES)
    assert data.scale == 1 / 255
    assert data.layout is not None


def test_idx_of_other_types(tmp_path):
    found = read(tmp_path, idx_bytes(np.array([1.5, -2], ">f4"), 13))
    np.testing.assert_array_equal(found, np.array([1.5, -2], np.float32))
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG", "not an IDX file: it starts with 89 50 4e 47"),
        (idx_bytes(IMAGES)[:9], "cut short"),
        (idx_bytes(IMAGES)[:-1], r"needs 30 bytes, but 29 follow"),
        (idx_bytes(IMAGES) + b"0", r"needs 30 bytes, but more follow"),
        (struct.pack(">BBBB", 0, 0, 8, 0) + b"1", "must have from 1 to 32 axes, but it has 0"),
        (struct.pack(">BBBB255I", 0, 0, 8, 255, *[1] * 255) + b"1", "must have from 1 to 32 axes, but it has 255"),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 0, 5), "holds no numbers"),
        (struct.pack(">BBBB3I", 0, 0, 14, 3, *[2**32 - 1] * 3), "bytes, but this machine has"),
        (b"\x1f\x8b" + b"junk" * 9, "cannot be unpacked"),
    ],
)
def test_idx_files_that_are_none(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_idx_files_whose_archive_is_damaged(tmp_path):
    packed = gzip.compress(idx_bytes(IMAGES), mtime=0)
    for damaged in (packed[:-9], packed[:-8] + bytes(8)):
        with pytest.raises(UserError, match="cannot be unpacked"):
            read(tmp_path, damaged, idx_bytes(LABELS))


def test_idx_files_of_different_lengths(tmp_path):
    with pytest.raises(UserError, match="inputs have 5 rows and targets have 4"):
        read(tmp_path, idx_bytes(IMAGES), idx_bytes(LABELS[:4]))


IDX = idx_bytes(LABELS)


@settings(max_examples=150)
@given(st.one_of(changed(IDX), changed(gzip.compress(IDX, mtime=0)), st.binary(max_size=40)))
def test_any_idx_file_is_read_or_refused(tmp_path_factory, content):
    with suppress(UserError):
        read(tmp_path_factory.getbasetemp(), content)

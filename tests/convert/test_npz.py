"""NumPy archives, read block by block or refused."""

import io
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.convert import content
from dbp.convert.npz import from_npz
from dbp.data import ColumnNames
from dbp.errors import UserError
from tests.convert.files import changed, converted, write

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def convert(path, inputs="inputs", targets=None, weights=None):
    """Read an archive whole, as what is wrong is found when it is read."""
    return list(from_npz(path, ColumnNames(inputs, targets, weights)).blocks)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("inputs", [X, np.asfortranarray(X), X.astype(">f4")], ids=["C", "Fortran", "big"])
def test_npz(tmp_path, save, inputs, monkeypatch):
    monkeypatch.setattr(content, "BLOCK_BYTES", 200)
    save(tmp_path / "a.npz", x=inputs, targets=Y, w=np.ones(23))
    found, _ = converted(tmp_path, from_npz(tmp_path / "a.npz", ColumnNames("x", None, "w")))
    np.testing.assert_array_equal(found.inputs, X)
    np.testing.assert_array_equal(found.targets, Y)
    assert found.inputs.dtype == np.float32
    with pytest.raises(UserError, match="no array 'inputs'; it has x, targets, w"):
        convert(tmp_path / "a.npz")
    with pytest.raises(UserError, match="no array 'y'; it has x, targets, w"):
        convert(tmp_path / "a.npz", "x", "y")
    assert list(convert(tmp_path / "a.npz", "w")[0]) == ["inputs", "targets"]
    np.savez(tmp_path / "b.npz", inputs=X, offsets=Y[:2])
    assert list(convert(tmp_path / "b.npz")[0]) == ["inputs"]
    np.savez(tmp_path / "b.npz", inputs=X, targets=Y[:3])
    with pytest.raises(UserError, match=r"b\.npz: every column needs one row per example, but inputs have shape"):
        convert(tmp_path / "b.npz")


def npz_with(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def array_bytes(shape, dtype="<f8", content=b""):
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "damaged, or no npz archive of plain arrays"),
        (array_bytes((1, 2**50)), "takes 9,007,199,254,740,992 bytes, but this machine has"),
        (array_bytes((3,), "|O", b"cos"), "must be numbers, but is of type object"),
        (array_bytes((3,), content=bytes(16)), "'inputs' is shorter than its shape"),
        (array_bytes((3,), content=bytes(32)), "'inputs' is longer than its shape"),
    ],
)
def test_archives_whose_arrays_are_none(tmp_path, content, message):
    npz_with(tmp_path / "a.npz", **{"inputs.npy": content, "targets.npy": content})
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "a.npz")


def test_a_member_that_is_damaged_or_packed_otherwise_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, inputs=RNG.random((40, 3)), targets=np.zeros(40))
    content = bytearray(path.read_bytes())
    content[90:120] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged, or no npz archive"):
        convert(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("inputs.npy", b"junk")
        archive.writestr("targets.npy", b"junk")
    with pytest.raises(UserError, match="'inputs' is packed in another way than NumPy's"):
        convert(path)


def small_archive(save):
    content = io.BytesIO()
    save(content, inputs=np.eye(3), targets=np.arange(3))
    return content.getvalue()


@settings(max_examples=150)
@given(st.one_of(changed(small_archive(np.savez)), changed(small_archive(np.savez_compressed)), st.binary(max_size=40)))
def test_any_archive_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(content)
    with suppress(UserError):
        write(path.with_suffix(".h5"), from_npz(path, ColumnNames("inputs", None)), overwrite=True)

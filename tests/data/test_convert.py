"""Converters from IDX, NPZ and CSV files."""

import gzip
import io
import os
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.data import ColumnMeaning, HDF5Dataset, convert
from dbp.data.convert import Converted
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def idx_bytes(array, code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (5, 3, 2)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 1, 0], np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_plain_and_gzip(tmp_path, pack):
    (tmp_path / "i").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "l").write_bytes(pack(idx_bytes(LABELS)))
    data = convert.from_idx(tmp_path / "i", tmp_path / "l")
    assert write(tmp_path / "o.h5", data) == 5
    data = HDF5Dataset(tmp_path / "o.h5")
    np.testing.assert_array_equal(data.read(slice(0, 5)).inputs, IMAGES)
    assert data.scale == 1 / 255
    assert data.layout is not None


def test_idx_of_other_types(tmp_path):
    (tmp_path / "f").write_bytes(idx_bytes(np.array([1.5, -2], ">f4"), 13))
    np.testing.assert_array_equal(convert.read_idx(tmp_path / "f"), [1.5, -2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG", "not an IDX file: it starts with 89 50 4e 47"),
        (idx_bytes(IMAGES)[:9], "cut short"),
        (idx_bytes(IMAGES)[:-1], r"needs 30 bytes, but 29 follow"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "cannot be unpacked"),
    ],
)
def test_idx_files_that_are_none(tmp_path, content, message):
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert.read_idx(tmp_path / "i")


def write(path, data, files=(), overwrite=False):
    return convert.write_hdf5(path, data, files, "here", overwrite)


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "o.h5").write_text("mine")
    data = Converted({"inputs": X, "targets": Y})
    with pytest.raises(UserError, match="exists; choose another name or pass --overwrite"):
        write(tmp_path / "o.h5", data)
    assert (tmp_path / "o.h5").read_text() == "mine"
    assert write(tmp_path / "o.h5", data, overwrite=True) == 23
    with pytest.raises(UserError, match=r"a\.npz: every column needs one row per example"):
        write(tmp_path / "p.h5", Converted({"inputs": X, "targets": Y[:3]}), [Path("a.npz")])
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "no" / "p.h5", data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5"]


def test_the_names_of_columns_and_classes_are_kept(tmp_path):
    names = {"inputs": [f"größe {i}" for i in range(5000)], "targets": ["kind"]}  # more than 64 KiB
    data = Converted({"inputs": np.zeros((2, 5000)), "targets": np.array([0, 1])}, names, ["bee", "ant"])
    write(tmp_path / "o.h5", data)
    found = HDF5Dataset(tmp_path / "o.h5").meaning
    assert found["inputs"] == ColumnMeaning("floats", names=tuple(names["inputs"]))
    assert found["targets"] == ColumnMeaning("integers", names=("kind",), classes=("bee", "ant"))
    write(tmp_path / "p.h5", Converted(data.columns, {}, []))
    assert HDF5Dataset(tmp_path / "p.h5").meaning["targets"] == ColumnMeaning("integers", classes=())


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, targets=Y, w=np.ones(23))
    columns = convert.from_npz(tmp_path / "a.npz", "x", "targets", "w").columns
    np.testing.assert_array_equal(columns["inputs"], X)
    with pytest.raises(UserError, match="no array 'inputs'; it has x, targets, w"):
        convert.from_npz(tmp_path / "a.npz", "inputs", "targets", None)


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("text", "target", "inputs", "targets", "classes"),
    [
        ("1,2,0\n3,4,1\n", None, [[1, 2], [3, 4]], [0, 1], []),
        ("a,b,y\n1,2,0.5\n3,4,1\n", None, [[1, 2], [3, 4]], [0.5, 1], []),
        ("y,a,b\n7,1,2\n\n9,3,4\n", "y", [[1, 2], [3, 4]], [7, 9], []),
        ("cat,1,2\nbee,3,4\ncat,5,6\n", "0", [[1, 2], [3, 4], [5, 6]], [1, 0, 1], ["bee", "cat"]),
        ("1, 2, u\n3, 4, v\n", "-1", [[1, 2], [3, 4]], [0, 1], ["u", "v"]),
        ("1,1\n2,1e300\n", None, [[1], [2]], [1, 1e300], []),
        ("1,nan\n2,1\n", None, [[1], [2]], [np.nan, 1], []),
        ("1,1_0\n2,20\n", None, [[1], [2]], [0, 1], ["1_0", "20"]),
        ("\ufeff1,2,-0\r\n3,4,1\r\n", "2", [[1, 2], [3, 4]], [0, 1], []),
    ],
)
def test_csv(tmp_path, text, target, inputs, targets, classes):
    found = convert.from_csv(table(tmp_path, text), target, ",")
    np.testing.assert_array_equal(found.columns["inputs"], inputs)
    np.testing.assert_array_equal(found.columns["targets"], targets)
    assert found.classes == classes


def test_a_table_with_a_header_names_its_columns(tmp_path):
    found = convert.from_csv(table(tmp_path, "a,y,b\n1,x,2\n"), "y", ",")
    assert found.names == {"inputs": ["a", "b"], "targets": ["y"]}
    assert convert.from_csv(table(tmp_path, "1,2\n"), None, ",").names == {}


def test_classes_may_be_named_in_their_order(tmp_path):
    path = table(tmp_path, "1,low\n2,high\n3,low\n")
    found = convert.from_csv(path, None, ",", ["low", "mid", "high"])
    assert (found.columns["targets"].tolist(), found.classes) == ([0, 2, 0], ["low", "mid", "high"])
    assert convert.from_csv(table(tmp_path, "1,2\n2,1\n"), None, ",", ["1", "2"]).columns["targets"].tolist() == [1, 0]
    with pytest.raises(UserError, match=r"t\.csv, line 2: the target '1' is none of the classes 2, 3"):
        convert.from_csv(path, None, ",", ["2", "3"])
    assert convert.parse_classes('ant,"bee, wild", cat') == ["ant", "bee, wild", "cat"]
    for wrong in ("", "ant,ant", "ant,,bee", "a\nb"):
        with pytest.raises(UserError, match="classes must be different names with commas between them"):
            convert.parse_classes(wrong)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("1,2\n3\n", None, "line 2: 1 values, but the first line has 2"),
        ("a,y\n1,0\nx,1\n", None, "line 3: 'x' is not a number"),
        ("a,y\n", None, "no rows"),
        ("1\n2\n", None, "at least two columns"),
        ("", None, "at least two columns"),
        ("a,y\n1,2\n", "z", "no column 'z'; its first line has a, y"),
        ("a,y\n1,2\n", "5", "no column '5'"),
        ("a,y\n1,2\n", "²", "no column '²'"),
        ("a,y\n1,2\n", "--5", "no column '--5'"),
        ("a,y\n1,2\n", "5" * 5000, "no column '555"),
        ("a,y,y\n1,2,3\n", "y", "has 2 columns 'y'; give the number of one, from 0"),
        ("1,2\n3,\0\n", None, "line 2: holds a zero byte"),
        ("1,u\n3,\n", None, "line 2: the target is missing"),
        ("1,2\n1_0,3\n", "1", "line 2: '1_0' is not a number"),
        ("1,2\n" + "9" * 200_000 + ",3\n", "1", "is not a table of text: field larger than field limit"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, target, message):
    with pytest.raises(UserError, match=message):
        convert.from_csv(table(tmp_path, text), target, ",")


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "\0"])
def test_a_delimiter_is_one_character(tmp_path, delimiter):
    with pytest.raises(UserError, match="the delimiter must be one character"):
        convert.from_csv(table(tmp_path, "1,2\n"), None, delimiter)


PARSERS = {
    "idx": convert.read_idx,
    "csv": lambda path: convert.from_csv(path, None, ","),
    "npz": lambda path: convert.from_npz(path, "inputs", "targets", None),
}


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_no_plain_file_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/dev/zero"), tmp_path / "fifo", tmp_path):
        with pytest.raises(UserError, match=f"{path} is not a plain file; save its content to one"):
            PARSERS[name](path)
    with pytest.raises(UserError, match=r"none cannot be read: No such file or directory"):
        PARSERS[name](tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack(">BBBB", 0, 0, 8, 0) + b"1", "must have from 1 to 32 axes, but it has 0"),
        (struct.pack(">BBBB255I", 0, 0, 8, 255, *[1] * 255) + b"1", "must have from 1 to 32 axes, but it has 255"),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 0, 5), "holds no numbers"),
        (struct.pack(">BBBB3I", 0, 0, 14, 3, *[2**32 - 1] * 3), "bytes, but this machine has"),
        (idx_bytes(IMAGES) + b"0", r"needs 30 bytes, but more follow"),
        (b"\x1f\x8b" + b"junk" * 9, "cannot be unpacked"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-8] + bytes(8), "cannot be unpacked"),
    ],
)
def test_idx_files_that_are_damaged(tmp_path, content, message):
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert.read_idx(tmp_path / "i")


def test_a_damaged_archive_for_a_table_is_refused(tmp_path):
    packed = gzip.compress(b"1,2\n3,4\n" * 50, mtime=0)
    (tmp_path / "t.csv").write_bytes(packed)
    assert convert.from_csv(tmp_path / "t.csv", None, ",").columns["targets"].shape == (100,)
    for content in (packed[:30], packed[:-4] + b"junk"):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"t\.csv cannot be unpacked"):
            convert.from_csv(tmp_path / "t.csv", None, ",")


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
        (array_bytes((2**50,)), "takes 9,007,199,254,740,992 bytes, but this machine has"),
        (array_bytes((3,), "|O", b"cos"), "must be numbers, but is of type object"),
        (array_bytes((3,), content=bytes(16)), "'inputs' is shorter than its shape"),
        (array_bytes((3,), content=bytes(32)), "'inputs' is longer than its shape"),
    ],
)
def test_archives_whose_arrays_are_none(tmp_path, content, message):
    npz_with(tmp_path / "a.npz", **{"inputs.npy": content, "targets.npy": content})
    with pytest.raises(UserError, match=message):
        convert.from_npz(tmp_path / "a.npz", "inputs", "targets", None)


def test_a_member_that_is_damaged_or_packed_otherwise_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, inputs=RNG.random((40, 3)), targets=Y)
    content = bytearray(path.read_bytes())
    content[90:120] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged, or no npz archive"):
        convert.from_npz(path, "inputs", "targets", None)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("inputs.npy", b"junk")
        archive.writestr("targets.npy", b"junk")
    with pytest.raises(UserError, match="'inputs' is packed in another way than NumPy's"):
        convert.from_npz(path, "inputs", "targets", None)


# --- whatever a file holds, it is converted or refused ------------------------------------------------

ODD = st.sampled_from([b"\0", b",", b"\n", b'"', b"1", b"-", b"e", b"_", b"nan", b"x", b"\xff", "é".encode()])
TEXTS = st.one_of(st.binary(max_size=80), st.lists(ODD, max_size=60).map(b"".join))
TARGETS = st.sampled_from([None, "0", "-1", "x", "²", "--1", "\0"])


@settings(max_examples=150)
@given(TEXTS, st.booleans(), TARGETS, st.sampled_from([",", "x", "é"]))
def test_any_table_is_converted_or_refused(tmp_path_factory, content, pack, target, delimiter):
    with suppress(UserError):
        path = tmp_path_factory.getbasetemp() / "any.csv"
        path.write_bytes(gzip.compress(content) if pack else content)
        write(path.with_suffix(".h5"), convert.from_csv(path, target, delimiter), overwrite=True)


@st.composite
def changed(draw, content):
    """Draw the content with some bytes changed, cut off or added."""
    changed = bytearray(content)
    for at in draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[at] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed) + draw(
        st.binary(max_size=3)
    )


IDX = idx_bytes(LABELS)


@settings(max_examples=150)
@given(st.one_of(changed(IDX), changed(gzip.compress(IDX, mtime=0)), st.binary(max_size=40)))
def test_any_idx_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(content)
    with suppress(UserError):
        convert.read_idx(path)


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
        write(path.with_suffix(".h5"), convert.from_npz(path, "inputs", "targets", None), overwrite=True)

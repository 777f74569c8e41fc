"""Files that are made at random, or damaged at random: nothing but a UserError leaves the reader of HDF5 files."""

import itertools

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbp.data import HDF5Dataset
from dbp.errors import UserError


def fuzz(examples):
    """Return the settings of a test with the same examples in every run."""
    unwarned = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=unwarned
    )


RNG, NUMBERS_OF_FILES = np.random.default_rng(0), itertools.count()
NUMBERS = ["f2", "f4", ">f8", "g", "u1", "<i8", "u8", "?"]
OTHERS = ["c8", "S3", "V2", [("a", "f4")], h5py.string_dtype(), h5py.vlen_dtype("f4"), h5py.ref_dtype]
SHAPES = [(), (0,), (7,), (7, 3), (7, 0), (7, 1, 2), (6, 3)]
LAYOUTS = [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}, {"chunks": True, "fletcher32": True}]
ATTRIBUTES = [None, 0.5, [0.5], [0.1, 0.2], "text", np.nan, 0, 1j, h5py.Empty("f4"), 2**40, b"1", np.zeros((0,))]


@st.composite
def columns(draw):
    """Return a function that adds a column to a file under a name."""
    kind = draw(st.sampled_from(["data", "data", "data", "empty", "group", "link", "external", "virtual", "nothing"]))
    dtype, shape = draw(st.sampled_from(NUMBERS + OTHERS)), draw(st.sampled_from([*SHAPES, (7, 3), (7, 3)]))
    layout, written = draw(st.sampled_from(LAYOUTS)), draw(st.booleans())
    target = draw(st.sampled_from(["inputs", "/targets", "weights", "/nowhere", "."]))
    scale = draw(st.sampled_from(ATTRIBUTES))

    def add(file, name):
        if kind == "data":
            simple = layout if dtype in NUMBERS and np.prod(shape) > 1 else {}
            column = file.create_dataset(name, shape, np.dtype(dtype), **simple)
            if written and dtype in NUMBERS:
                column[...] = np.ones(shape, dtype)
        elif kind == "virtual":
            shown = h5py.VirtualLayout((7, 3), "f4")
            shown[:5] = h5py.VirtualSource("." if written else "other.h5", target, (5, 3))
            file.create_virtual_dataset(name, shown)
        elif kind != "nothing":
            links = {"link": h5py.SoftLink(target), "external": h5py.ExternalLink("other.h5", target)}
            file[name] = links.get(kind, h5py.Empty("f4"))
        if kind == "group":
            del file[name]
            file.create_group(name)
        if scale is not None and kind in ("data", "empty", "group"):
            file[name].attrs["scale"] = scale

    return add


def read_all(path):
    """Open a file and read it in every way, but for files of any size; return True if that was possible."""
    try:
        data = HDF5Dataset(path)
        for rows in (slice(0, 7), np.array([5, 2, 2]), np.array([], int)):
            data.read(rows)
    except UserError:
        return False
    return True


@fuzz(150)
@given(inputs=columns(), targets=columns(), weights=columns())
def test_odd_files_raise_user_errors_only(tmp_path, inputs, targets, weights):
    path = written(tmp_path, b"")
    with h5py.File(path, "w") as file:
        for name, add in (("inputs", inputs), ("targets", targets), ("weights", weights)):
            add(file, name)
    read_all(path)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Return the bytes of a file that can be read, and the places of its chunks."""
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    with h5py.File(path, "w") as file:
        column = file.create_dataset("inputs", data=RNG.random((7, 3)), chunks=(2, 3), compression="gzip")
        file["targets"] = np.zeros(7, int)
        chunks = [column.id.get_chunk_info(i) for i in range(4)]
    assert read_all(path)
    return path.read_bytes(), [place for c in chunks for place in range(c.byte_offset, c.byte_offset + c.size)]


# Damage elsewhere is left out, as HDF5 itself ends the process on some of it.
@fuzz(100)
@given(damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_chunks_raise_user_errors_only(tmp_path, contents, damage):
    whole, places = contents
    damaged = bytearray(whole)
    for place, value in damage:
        damaged[places[place % len(places)]] = value
    read_all(written(tmp_path, damaged))


@fuzz(50)
@given(length=st.integers(0, 10**6))
def test_files_that_are_cut_off_raise_user_errors_only(tmp_path, contents, length):
    whole, _ = contents
    assert not read_all(written(tmp_path, whole[: length % len(whole)]))


def written(folder, content):
    """Write a file under a name of its own, as HDF5 takes a file that is open already for the same."""
    path = folder / f"{next(NUMBERS_OF_FILES)}.h5"
    path.write_bytes(content)
    return path

"""Files of other formats for tests of converters, and what becomes of them."""

import struct

from hypothesis import strategies as st

from dbp.convert.writing import write_hdf5
from dbp.data import HDF5Dataset


def table(folder, text, name="t.csv"):
    """Write a table and return its path."""
    (folder / name).write_text(text)
    return folder / name


def idx_bytes(array, code=8):
    """Return an array as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def write(path, content, overwrite=False, chunks=None):
    """Write a data set."""
    return write_hdf5(path, content, "here", overwrite, chunks)


def converted(folder, content):
    """Write a data set and return all its columns and their meaning."""
    write(folder / "converted.h5", content, overwrite=True)
    data = HDF5Dataset(folder / "converted.h5", targets="targets" if has_targets(folder / "converted.h5") else None)
    return data.read(slice(0, len(data))), data.meaning


def has_targets(path):
    """Return True if a data file has targets."""
    import h5py

    with h5py.File(path) as file:
        return "targets" in file


@st.composite
def changed(draw, content):
    """Draw the content with some bytes changed, cut off or added."""
    changed = bytearray(content)
    for at in draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[at] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed) + draw(
        st.binary(max_size=3)
    )

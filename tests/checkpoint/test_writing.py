"""Writing checkpoints: h5py reads them, and their cost grows no faster than what they hold."""

import time

import h5py
import numpy as np

from dbp.checkpoint import StoredCheckpoint, opened, read, write

LIMIT = 8.0  # CPU seconds for some 5,000 arrays, of which they take less than one; HDF5's own reading took 20


def test_thousands_of_arrays_are_written_and_read_in_little_time(tmp_path):
    arrays = {f"block_{i}/weight": np.full((2, 2), i, np.float32) for i in range(2400)}
    checkpoint = StoredCheckpoint(model=arrays, optimizer={"mean": arrays}, progress={"step": 1})
    start = time.process_time()
    write(tmp_path / "c.h5", checkpoint)
    with opened(tmp_path / "c.h5") as found:
        found.verify()
    assert time.process_time() - start < LIMIT
    with h5py.File(tmp_path / "c.h5") as file:
        assert file["optimizer/mean/block_77/weight"][1, 1] == 77


def test_arrays_of_all_sizes_lie_where_hdf5_has_them(tmp_path):
    sizes = (0, 1, 1023, 1024, 1025, 5000)
    arrays = {f"layer/{size}": np.arange(size, dtype=np.float32) for size in sizes} | {"layer/number": np.array(2.5)}
    write(tmp_path / "c.h5", StoredCheckpoint(model=arrays))
    found = read(tmp_path / "c.h5").model
    with h5py.File(tmp_path / "c.h5") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[f"model/{name}"][()], array)
            np.testing.assert_array_equal(found[name], array)


def test_the_same_state_is_the_same_bytes(tmp_path):
    checkpoint = StoredCheckpoint(model={"layer/weight": np.ones(3)}, progress={"step": 1})
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, checkpoint)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()

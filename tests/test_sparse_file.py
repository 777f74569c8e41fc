"""A file in memory."""

import numpy as np

from dbp.files import new_file
from dbp.sparse_file import SparseFile


def test_a_sparse_file_is_as_one_on_the_disk(tmp_path):
    rng, sparse = np.random.default_rng(0), SparseFile()
    with (tmp_path / "plain").open("w+b") as plain:
        for offset, length in zip(rng.integers(0, 5000, 40), rng.integers(1, 300, 40), strict=True):
            data = rng.bytes(int(length))
            for file in (plain, sparse):
                file.seek(offset)
                file.write(data)
    with new_file(tmp_path / "copy") as copy:
        sparse.copy_to(copy)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "plain").read_bytes()
    sparse.seek(0)
    assert sparse.read(6000) == (tmp_path / "plain").read_bytes().ljust(6000, b"\0")

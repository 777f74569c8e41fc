"""Reading ahead on several ranks whose file goes while they train."""

import re

import h5py
import numpy as np
import pytest

from tests.jobs import PROGRAMS, mpirun


@pytest.mark.slow
def test_a_file_that_is_cut_off_ends_all_ranks_with_the_cause(tmp_path):
    path, numbers = tmp_path / "a.h5", np.random.default_rng(0).random((1000, 4))
    with h5py.File(path, "w") as file:
        for name in ("inputs", "targets"):
            file.create_dataset(name, data=numbers, chunks=(50, 4), compression="gzip")
    outcome = mpirun(3, PROGRAMS / "data_cut_off.py", path, 10 * 50 * 64)
    assert outcome.code == 65, outcome.text
    expected = (
        r"a.h5: (inputs|targets) of 50 examples from \d+ to \d+ cannot be read: the file was cut off to 20,000 bytes"
    )
    assert len(re.findall(expected, outcome.err)) == 1

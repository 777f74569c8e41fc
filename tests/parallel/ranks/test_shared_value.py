"""A value of rank 0 on all ranks, whose large arrays a node holds once."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.parallel import OneProcess, shared_from_rank_0
from dbp.parallel.ranks import shared_value
from tests.jobs import PROGRAMS, mpirun


@pytest.mark.parametrize("can_share", [True, False])
def test_large_arrays_are_read_only_and_all_the_same(can_share, monkeypatch):
    comm = OneProcess()
    if not can_share:
        monkeypatch.setattr(comm.node, "allocate", lambda length: None)
    monkeypatch.setattr(shared_value, "LARGE_BYTES", 100)
    given = {"small": np.arange(5), "large": [np.arange(77), np.ones((3, 50), "f4")], "text": "x"}
    found = shared_from_rank_0(comm, lambda: given)
    np.testing.assert_array_equal(found["small"], given["small"])
    for mine, theirs in zip(found["large"], given["large"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
        assert not mine.flags.writeable
    assert found["small"].flags.writeable
    assert found["text"] == "x"


def test_its_error_is_raised():
    def fails():
        raise UserError("no such column")

    with pytest.raises(UserError, match="no such column"):
        shared_from_rank_0(OneProcess(), fails)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["3", "2,1"])
def test_the_ranks_of_a_node_see_the_same_memory(sizes):
    outcome = mpirun(3, PROGRAMS / "shared_values.py", env={"DBP_NODE_SIZES": sizes if "," in sizes else ""})
    assert outcome.code == 0, outcome.text
    assert "the same on all ranks" in outcome.out

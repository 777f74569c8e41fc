"""Memory that processes share: the same bytes for all, in huge pages or not."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dbp.parallel.machine.shared_memory import HUGE_PAGE_BYTES, SHARED_MEMORY, SharedFile, private_memory
from tests.jobs import PROGRAMS, launcher, mpirun, run
from tests.processes import ProcessTree, wait_until

CREATOR = """
import time
from dbp.parallel.machine.shared_memory import SharedFile
print(*SharedFile(100).create()[:2], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("length", [1, 5000, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5000])
def test_all_who_map_a_file_see_the_same_bytes_in_huge_pages_too(length, named):
    name = f"dbp-test-{os.getpid()}-{length}" * named
    one, other = SharedFile(length, name), SharedFile(length, name)
    try:
        location = one.create()
        assert not location.problem
        assert not one.map(location)
        assert not other.map(location)
        assert (Path(SHARED_MEMORY) / name).is_file() == named
    finally:
        one.close()
    assert "does not show" in SharedFile(length, name).map(location)
    pattern = np.arange(length).astype(np.uint8)
    assert len(one.memory.bytes) == len(other.memory.bytes) == length
    one.memory.bytes[:] = pattern
    for rank in range(2):
        one.memory.use_huge_pages(0, length, 2, rank)
    np.testing.assert_array_equal(other.memory.bytes, pattern)
    other.memory.bytes[-1] = 7
    other.memory.use_huge_pages(min(100, length), length, 1, 0)
    pattern[-1] = 7
    np.testing.assert_array_equal(one.memory.bytes, pattern)
    kept = one.memory.bytes[-1:]
    one.memory.free()
    assert not len(one.memory.bytes)
    assert kept[0] == 7  # as long as somebody refers to it


@pytest.mark.parametrize("length", [0, 100, HUGE_PAGE_BYTES, 2 * HUGE_PAGE_BYTES + 4])
def test_own_memory_consists_of_zeros_and_may_be_written(length):
    one, other = private_memory(length), private_memory(length)
    assert len(one) == len(other) == length
    assert not one.any()
    one[:] = 3
    assert (one == 3).all()
    assert not other.any()


def test_a_file_of_that_name_is_not_taken_over():
    name = f"dbp-test-{os.getpid()}"
    one = SharedFile(100, name)
    try:
        location = one.create()
        assert not location.problem
        assert "takes no file" in SharedFile(100, name).create().problem
        assert "is not what another rank has put there" in SharedFile(100, name).map(location._replace(identity=(0, 0)))
    finally:
        one.close()
    assert "does not show" in one.map(location)


def test_nothing_is_left_of_a_file_whose_creator_is_killed_before_others_have_it():
    before = {path.name for path in Path(SHARED_MEMORY).glob("dbp-*")}
    with ProcessTree(sys.executable, "-c", CREATOR) as creator:
        assert wait_until(lambda: "\n" in creator.out)
        path = Path(creator.out.split()[0])
        assert path.stat().st_size > 0
        creator.process.kill()
        creator.wait()
    assert not path.exists()
    assert not {path.name for path in Path(SHARED_MEMORY).glob("dbp-*")} - before


@pytest.mark.slow
def test_ranks_that_do_not_see_each_other_as_processes_share_memory_by_a_name():
    """Containers number processes by themselves; here each rank has number 1."""
    program = PROGRAMS / "shared_bytes.py"
    assert mpirun(2, program).text == "seen by all\n"
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0 or shutil.which("unshare") is None or run(*apart, "true").code:
        pytest.skip("only root, with unshare, gives processes numbers of their own")
    env = {"OMPI_MCA_btl": "self,tcp"}  # Open MPI's shared memory takes a process by its number
    outcome = run(launcher(sys.executable), "-n", 2, *apart, sys.executable, program, env=env)
    assert outcome.text == "seen by all\n"

"""Files of MPI in memory lose their names once all ranks of a node have mapped them."""

import mmap
import os
from pathlib import Path

import pytest

from dbp.parallel.machine.shared_memory import SEGMENT_FOLDER, SHARED_MEMORY
from dbp.parallel.ranks.mpi_segments import remove_names


class Node:
    """MPI's communicator of two ranks, of which the other one maps some files."""

    def __init__(self, others):
        self._others = others

    def allgather(self, mine):
        return [mine, mine if self._others is None else self._others]


@pytest.fixture(params=[SEGMENT_FOLDER])
def files(request):
    """Return two files that this process maps: one named as Open MPI names its own, in a folder, and another one."""
    if not os.access(SHARED_MEMORY, os.W_OK):
        pytest.skip(f"{SHARED_MEMORY} cannot be written to")
    folder = Path(SHARED_MEMORY, f"{request.param}test-{os.getpid()}")
    folder.mkdir()
    paths = [folder / "sm_segment.h.0.1.0", Path(SHARED_MEMORY, f"my-own-{os.getpid()}")]
    mapped = []
    for path in paths:
        path.write_bytes(bytes(4096))
        with path.open("r+b") as file:
            mapped.append(mmap.mmap(file.fileno(), 0))
    yield paths
    for path in paths:
        path.unlink(missing_ok=True)
    if folder.exists():
        folder.rmdir()


def test_the_files_of_mpi_lose_their_names_and_no_others(files):
    segment, other = files
    remove_names(Node(None))
    assert not segment.parent.exists()
    assert other.exists()


@pytest.mark.parametrize("files", ["dbp-of-a-user-"], indirect=True)
def test_a_folder_of_the_user_stays(files):
    segment, _ = files
    remove_names(Node(None))
    assert list(segment.parent.iterdir()) == []


def test_files_that_a_rank_has_not_mapped_yet_keep_their_names(files):
    remove_names(Node([]))
    assert all(path.exists() for path in files)

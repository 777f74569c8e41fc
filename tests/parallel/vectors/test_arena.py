"""The arena under mpirun: the same bits in private and shared memory, on any nodes."""

import pytest

from tests.jobs import PROGRAMS, mpirun, slow


@pytest.mark.slow
def test_shared_memory_gives_the_bits_of_private_memory():
    outcome = mpirun(3, PROGRAMS / "arena_checks.py")
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")


@pytest.mark.parametrize("sizes", ["1,1", *slow("2,2,1")])
def test_several_nodes_give_the_bits_of_one(sizes):
    ranks = sum(map(int, sizes.split(",")))
    outcome = mpirun(ranks, PROGRAMS / "arena_checks.py", env={"DBP_NODE_SIZES": sizes})
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")


@pytest.mark.slow
def test_nodes_with_mpich_too(mpich_python):
    outcome = mpirun(2, PROGRAMS / "arena_checks.py", python=mpich_python, env={"DBP_NODE_SIZES": "1,1"})
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")

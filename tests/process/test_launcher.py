"""The launcher of MPI: a command that a rank starts as its child is no rank."""

import sys

from tests.jobs import dbp, launcher, run

PARENT = """
import subprocess, sys, mpi4py
mpi4py.rc.initialize = False  # what counts is that the library is there
from mpi4py import MPI
done = subprocess.run([sys.executable, "-m", "dbp", "eval", "nothing", "nothing.h5"], capture_output=True, text=True)
print(done.returncode, done.stdout + done.stderr, end="")
"""


def test_a_command_started_by_a_rank_with_mpi_ends_in_one_line():
    launcher()  # skips without an MPI
    rank = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_NAMESPACE": "of this test"}
    outcome = run(sys.executable, "-c", PARENT, env=rank, timeout=30)
    assert outcome.out.startswith("2 dbp: error: rank 1 of an MPI job (process "), outcome.text
    assert outcome.out.count("\n") == 1
    assert "start it outside of that job, or as a job of its own with dbp run" in outcome.out


def test_a_mistake_in_a_command_of_one_process_does_not_wait_for_other_ranks():
    rank = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    outcome = dbp("inspect", "nothing", env=rank)
    assert (outcome.code, outcome.err) == (2, "dbp: error: checkpoint nothing does not exist\n")

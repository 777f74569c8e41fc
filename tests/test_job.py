"""Batch jobs: recognized by the variables that schedulers set, with their time limits; single ranks are refused."""

import json
import os
import sys
import time

import pytest

from dbp.errors import UserError
from dbp.job import Job, job_here, seconds_left
from dbp.process import launcher as launchers
from dbp.saving.stopping import Stopping, signals
from dbp.text import TIME_OF_JOB
from tests.jobs import dbp, digest, launcher, run

SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_JOB_CPUS_PER_NODE": "8(x2)",
}
PBS = {"PBS_JOBID": "17.server", "NCPUS": "8"}
LSF = {"LSB_JOBID": "17", "LSB_JOBINDEX": "0", "LSB_MCPU_HOSTS": "n1 4 n2 4"}
FLUX = {"FLUX_JOB_ID": "f2", "FLUX_ENCLOSING_ID": "f1", "FLUX_JOB_SIZE": "8", "FLUX_JOB_NNODES": "2"}
GRID = {"JOB_ID": "17", "PE_HOSTFILE": "/x", "NSLOTS": "8", "NHOSTS": "2", "RESTARTED": "1", "SGE_TASK_ID": "undefined"}

JOBS = {
    "slurm": (SLURM, Job("Slurm", "17", None, 0, 2, 4, 2)),
    "slurm, asked per node": (
        {**SLURM, "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "3"},
        Job("Slurm", "17", None, 0, 2, 2, 3),
    ),
    "slurm, below a daemon of mpirun": (
        {**SLURM, "SLURM_STEP_ID": "1", "SLURM_NTASKS_PER_NODE": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
        Job("Slurm", "17", None, 0, 2, 4, 2),
    ),
    "slurm, below a daemon of MPICH": (
        {**SLURM, "SLURM_STEP_ID": "1", "SLURM_TASKS_PER_NODE": "1(x2)", "MPI_LOCALNRANKS": "4"},
        Job("Slurm", "17", None, 0, 2, 4, 2),
    ),
    "slurm, again": ({**SLURM, "SLURM_RESTART_COUNT": "3"}, Job("Slurm", "17", None, 3, 2, 4, 2)),
    "slurm, again in a chain": (
        {**SLURM, "SLURM_RESTART_COUNT": "3", "DBP_JOB": "2"},
        Job("Slurm", "17", None, 4, 2, 4, 2),
    ),
    "slurm, array": (
        {**SLURM, "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"},
        Job("Slurm", "12_0", "0", 0, 2, 4, 2),
    ),
    "pbs": (PBS, Job("PBS", "17.server", None, None, 2, 4, 2)),
    "pbs, array": (
        {**PBS, "PBS_JOBID": "17[0].server", "PBS_ARRAY_INDEX": "0"},
        Job("PBS", "17[0].server", "0", None, 2, 4, 2),
    ),
    "pbs, third of a chain": ({**PBS, "DBP_JOB": "3"}, Job("PBS", "17.server", None, 2, 2, 4, 2)),
    "lsf": (LSF, Job("LSF", "17", None, None, 2, 4)),
    "lsf, array": ({**LSF, "LSB_JOBINDEX": "5"}, Job("LSF", "17[5]", "5", None, 2, 4)),
    "flux": (FLUX, Job("Flux", "f1", None, None, 2, 4)),
    "flux, of no script": ({"FLUX_JOB_ID": "f2"}, Job("Flux", "f2")),
    "grid engine": (GRID, Job("Grid Engine", "17", None, 1, 2, 4)),
    "kubernetes": ({"K_MPI_JOB_ROLE": "launcher", "HOSTNAME": "digits-launcher-x2x4v"}, Job("Kubernetes", "digits")),
    "none": ({"JOB_ID": "17", "HOSTNAME": "n1"}, None),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_recognized_by_what_its_scheduler_sets(tmp_path, name):
    environment, job = JOBS[name]
    (tmp_path / "nodes").write_text("n1\nn1\nn1\nn1\nn2\nn2\nn2\nn2\n")
    assert job_here({**environment, "PBS_NODEFILE": str(tmp_path / "nodes")}) == job


def test_a_job_in_words():
    assert str(JOBS["slurm"][1]) == "Slurm job 17: 2 nodes, 4 ranks per node, 2 cores per rank"
    assert str(Job("Slurm", "17", restarts=2, nodes=1, ranks_per_node=1)) == (
        "Slurm job 17 (restart 2): 1 node, 1 rank per node"
    )
    assert str(Job("Flux", "f2")) == "Flux job f2"


def stand_in(folder, monkeypatch, name, text, code=0):
    """Write a stand-in for a scheduler's program, which notes how it was called."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho \"$@\" >{folder}/asked\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


QSTAT = "Job Id: 17.server\n    Job_Name = a\n    Resource_List.walltime = 02:00:00\n"
LEFT = {
    "squeue": [("1-00:00:10", 86410), ("59:50", 3590), ("0:07", 7), ("UNLIMITED", None), ("INVALID", None), ("", None)],
    "qstat": [
        (f"{QSTAT}    resources_used.walltime = 00:30:00", 5400),
        (f"{QSTAT}    resources_used.walltime = 00:30:00\n    stime = BEGAN", 3600),
        (QSTAT, 7200),
        (f"{QSTAT}    Walltime.Remaining = 100", 100),
        ("Job Id: 17.server\n    Job_Name = a", None),
    ],
    "bjobs": [("2:05 L", 7500), ("0:00 L", 0), ("2:05 E", None), ("-", None)],
    "flux": [("3600", 3600), ("4294967295", None), ("", None)],
}
ASKED = {"squeue": "slurm", "qstat": "pbs", "bjobs": "lsf", "flux": "flux"}


@pytest.mark.parametrize(("program", "text", "left"), [(name, *case) for name, cases in LEFT.items() for case in cases])
def test_the_scheduler_is_asked_for_the_time_that_is_left(tmp_path, monkeypatch, program, text, left):
    environment, job = JOBS[ASKED[program]]
    an_hour_ago = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(time.time() - 3600))  # as qstat writes it
    stand_in(tmp_path, monkeypatch, program, text.replace("BEGAN", an_hour_ago))
    found = seconds_left(job, environment)
    assert found == pytest.approx(left, abs=60 if "BEGAN" in text else 0) if left is not None else found is None
    asked = (tmp_path / "asked").read_text()
    assert job.id in asked or program == "flux"


def test_the_time_that_is_left_may_be_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    end = {"SLURM_JOB_END_TIME": str(int(time.time() + 500))}
    assert seconds_left(JOBS["slurm"][1], SLURM | end) == pytest.approx(500, abs=60)
    (tmp_path / "nodes").touch()
    walltime = {"PBS_WALLTIME": "600", "PBS_NODEFILE": str(tmp_path / "nodes")}
    assert seconds_left(JOBS["pbs"][1], PBS | walltime) == pytest.approx(600, abs=60)


def test_a_scheduler_that_does_not_answer_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dbp.job.ANSWER_SECONDS", 0.2)
    for name in ("slurm", "pbs", "lsf", "flux", "grid engine", "kubernetes"):
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        assert seconds_left(JOBS[name][1], JOBS[name][0]) is None
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    stand_in(tmp_path, monkeypatch, "squeue", "1:00", code=1)
    assert seconds_left(JOBS["slurm"][1], SLURM) is None
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 600\n")
    start = time.monotonic()
    assert seconds_left(JOBS["slurm"][1], SLURM) is None
    assert time.monotonic() - start < 120


# --- what a run makes of it -----------------------------------------------------------------------------


def test_a_time_limit_that_is_too_short_is_refused(monkeypatch):
    monkeypatch.setattr(signals, "since", time.monotonic() - 3)
    Stopping(leads=True, limit=5.5).check({})
    Stopping(leads=True, limit=None).check({"step_seconds": 100.0})
    with pytest.raises(UserError, match="the time limit of 4 s leaves no time for the start, a step and a checkpoint;"):
        Stopping(leads=True, limit=4.0).check({"step_seconds": "?"})
    with pytest.raises(UserError, match=r"which took 2 s and 30 s; give 7[12] s at the least$"):
        Stopping(leads=True, limit=36.0).check({"step_seconds": 2, "save_seconds": 30.0})


def test_what_steps_and_saves_take_is_kept_in_the_status_and_counts_at_the_next_start(small, tmp_path):
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_END_TIME": str(int(time.time() + 3000))}
    outcome = dbp("train", small, "--time-limit", TIME_OF_JOB, env=job)
    assert outcome.code == 0, outcome.text
    assert "Slurm job 17, 0:49:" in outcome.out
    status = json_of(tmp_path / "run" / "status.json")
    assert status["job"] == "17"
    assert 0 < status["step_seconds"] < 60
    assert 0 < status["save_seconds"] < 60
    (tmp_path / "run" / "status.json").write_text(json.dumps(status | {"step_seconds": 50, "save_seconds": 1000}))
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*"))
    outcome = dbp("train", small, "--time-limit", "10:00", "--set", "epochs=3")
    assert outcome.code == 2
    assert outcome.err.startswith("dbp: error: the time limit of 600 s leaves no time for the start, a step and a chec")
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")) == before


def json_of(path):
    return json.loads(path.read_text())


def test_a_time_limit_that_is_too_short_for_the_start_leaves_nothing_behind(small, tmp_path):
    outcome = dbp("train", small, "--time-limit", "1")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_tasks_of_an_array_have_folders_of_their_own(small, tmp_path):
    for task in ("0", "7"):
        job = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": task}
        outcome = dbp("train", small, "--set", f"seed={task}", env=job)
        assert outcome.code == 0, outcome.text
        assert f"task {task} of an array: its folder is {tmp_path}/run-{task}\n" in outcome.out
    assert not (tmp_path / "run").exists()
    assert digest(tmp_path / "run-0") != digest(tmp_path / "run-7")


# --- ranks that do not see each other ---------------------------------------------------------------------


def as_srun_does(rank, ranks):
    """Return the variables of a rank that srun starts without MPI."""
    return {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(ranks), "SLURM_PROCID": str(rank), "SLURM_JOB_ID": "17"}


MEANT = {
    "alone": ({}, (False, 1, 0)),
    "mpirun": ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, (True, 4, 2)),
    "srun": (as_srun_does(3, 4), (True, 4, 3)),
    "mpirun over daemons that srun started": (
        {**as_srun_does(1, 2), "OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"},
        (True, 1, 0),
    ),
    "a script of Slurm": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "17"}, (False, 1, 0)),
    "flux": ({"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "1"}, (True, 4, 1)),
    "jsrun": ({"JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "1", "PMIX_RANK": "1"}, (True, 4, 1)),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_a_launcher_meant(monkeypatch, name):
    environment, expected = MEANT[name]
    for variable in [v for v in os.environ if v.startswith(("OMPI_COMM", "PMI", "SLURM", "FLUX"))]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert (launchers.launched_by_mpi(), launchers.launched_size(), launchers.launched_rank()) == expected


REMEDIES = {
    "srun": (
        as_srun_does(0, 2),
        "do not understand each other in this way; start with srun --mpi=pmix, if srun --mpi=list has that, or with",
    ),
    "flux": (
        {"FLUX_JOB_SIZE": "2", "FLUX_TASK_RANK": "0"},
        "start with flux run -o pmi=pmix, if Flux has its plugin for that, or with the mpirun",
    ),
    "jsrun": ({"JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "0"}, "start with the mpirun of that MPI, or use: dbp"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEDIES)
def test_one_rank_where_the_launcher_meant_two_is_refused(small, tmp_path, name):
    launcher()  # skips without an MPI
    environment, remedy = REMEDIES[name]
    first = dbp("train", small, env=environment)
    assert first.code == 2
    assert first.err.count("\n") == 1
    assert "the launcher started 2 ranks, but each of them sees one rank only" in first.err
    assert remedy in first.err
    other = dbp("train", small, env={**environment, **dict.fromkeys(RANK_VARIABLES & set(environment), "1")})
    assert (other.code, other.text) == (2, "")
    assert not (tmp_path / "run").exists()


RANK_VARIABLES = {"SLURM_PROCID", "FLUX_TASK_RANK", "JSM_NAMESPACE_RANK"}


@pytest.mark.slow
def test_a_script_is_refused_in_one_line_too(tmp_path):
    launcher()
    (tmp_path / "script.py").write_text("import dbp\ndbp.fit(model=[], loss='x', data=0, optimizer=0, epochs=1)\n")
    for rank, lines in ((0, 1), (1, 0)):
        outcome = run(sys.executable, tmp_path / "script.py", env=as_srun_does(rank, 2))
        assert (outcome.code, outcome.err.count("\n")) == (2, lines), outcome.err

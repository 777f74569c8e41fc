"""Jobs of a real Slurm, with a node for each of two emulated hosts."""

import contextlib
import json
import os
import re
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from slurm import Slurm, why_not

from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, ROOT, SMALL, dbp, digest, launcher, run
from tests.launcher import ONCE_MORE
from tests.processes import LIMIT, is_running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

LONG = SMALL.replace("epochs = 2", "epochs = 60").replace("units = 16", "units = 200")
PLACES = ("PRTE_MCA_rmaps_default_mapping_policy", "OMPI_MCA_rmaps_base_oversubscribe")  # Slurm's are tested
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
# Starts a program on all ranks; what stops it in time has it started again by the same job.
JOB = f"""\
#!/bin/bash
{shlex.join(ONCE_MORE)} mpirun --map-by ppr:1:node --bind-to none {sys.executable} "$@" & launcher=$!
while kill -0 $launcher 2>/dev/null; do wait $launcher; code=$?; done
echo "code $code"
if [ $code = 75 ]; then scontrol requeue $SLURM_JOB_ID; fi
exit $code
"""


@pytest.fixture(scope="module")
def slurm():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**LAUNCHER_SETTINGS, "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        for name in PLACES:
            patch.delenv(name, raising=False)
        patch.setenv("PATH", f"{Path(launcher()).parent}:{os.environ['PATH']}")
        with Slurm(2) as slurm:
            yield slurm


@dataclass
class Batch:
    """A job that was submitted.

    Args:
        slurm: to whom.
        id: that it gave.
        run: folder of the run that it is of.
        log: what the job prints.
    """

    slurm: Slurm
    id: str
    run: Path
    log: Path

    @property
    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def status(self):
        try:
            return json.loads((self.run / "status.json").read_text())
        except FileNotFoundError:
            return {}

    def wait(self, condition, seconds=LIMIT):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.text}\n{self.status()}\n{self.slurm.state(self.id)}"
            time.sleep(0.1)

    def wait_for_steps(self, count):
        self.wait(lambda: self.status().get("step", 0) >= count)

    def ended(self, seconds=LIMIT):
        return self.slurm.until(self.id, ENDED, seconds)


def submitted(slurm, folder, *words):
    """Submit a script, and return its job."""
    job = slurm.run("sbatch", "--parsable", *map(str, words)).strip()
    return Batch(slurm, job, folder / "run", folder / "log")


def submit(slurm, config, folder):
    """Submit a chain of jobs that trains over both nodes, with a rank on each."""
    asked = ("--nodes", "2", "--ranks-per-node", "1", "--time", "5:00", "--scheduler", "slurm")
    told = slurm.run(sys.executable, "-m", "dbp", "submit", str(config), *asked, "--out", str(folder))
    job = re.search(r"^submitted \S+ as (\d+);", told, re.MULTILINE)[1]
    return Batch(slurm, job, folder, folder / f"slurm-{job}.out")


@pytest.fixture(scope="module")
def limited(slurm, tmp_path_factory):
    """Submit a job that meets the shortest time limit of Slurm, while other tests run."""
    folder = tmp_path_factory.mktemp("limited")
    (folder / "job.sh").write_text(JOB)
    options = ("--nodes=2", "--ntasks-per-node=1", "--time=1", "--requeue", "--open-mode=append")
    files = (f"--output={folder}/log", f"--export=ALL,PAUSE=0.2,OUT={folder}/run")
    return submitted(slurm, folder, *options, *files, folder / "job.sh", PROGRAMS / "slow_training.py")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Return a config that trains for some seconds, and its digest on one process."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "long.toml").write_text(LONG)
    outcome = dbp("train", folder / "long.toml", "--out", folder / "run")
    assert outcome.code == 0, outcome.text
    return folder / "long.toml", digest(folder / "run")


@pytest.mark.usefixtures("limited")
def test_what_was_asked_for_is_known_to_script_and_ranks(slurm, tmp_path):
    known = "from dbp.job import *; job = job_here(); print(job, '|', seconds_left(job))"
    (tmp_path / "job.sh").write_text(
        f'#!/bin/bash\ntell() {{ {sys.executable} -c "{known}"; }}\nexport -f tell\ntell\n'
        f"{shlex.join(ONCE_MORE)} mpirun --map-by ppr:2:node --bind-to none bash -c tell\nsrun bash -c tell\n"
    )
    asked = ("--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=30")
    submitted(slurm, tmp_path, *asked, f"--output={tmp_path}/log", tmp_path / "job.sh").ended()
    log = (tmp_path / "log").read_text()
    lines = [line for line in log.splitlines() if "|" in line]
    assert len(lines) == 9, log
    for line in lines:
        job, _, left = line.partition(" | ")
        assert re.fullmatch(r"Slurm job \d+: 2 nodes, 2 ranks per node, 1 core per rank", job)
        assert 1700 < float(left) <= 1800


def test_a_job_that_is_stopped_twice_ends_with_the_bits_of_an_unbroken_run(slurm, long, tmp_path):
    config, expected = long
    job = submit(slurm, config, tmp_path / "run")
    for restarts, steps in ((1, 20), (2, 300)):
        job.wait_for_steps(steps)
        slurm.run("scancel", "--signal=USR1", "--batch", job.id)
        job.wait(lambda count=restarts: slurm.state(job.id)["Restarts"] == str(count))
        assert job.status()["state"] == "stopped"
    assert job.ended()["JobState"] == "COMPLETED", job.text
    assert job.text.count(f"stop requested by the file {job.run}/stop (rank 0): saved step") == 2
    assert job.text.count(f"run {job.run}: continued by job {job.id}\n") == 2
    assert job.text.endswith(f"run {job.run}: finished\n")
    assert job.text.count("2 ranks on 2 nodes (Open MPI") == 3
    assert f"Slurm job {job.id} (restart 2): 2 nodes, 1 rank per node, " in job.text
    assert job.status()["state"] == "finished"
    assert digest(job.run) == expected


def test_tasks_of_an_array_train_apart_and_one_is_started_again_alone(slurm, tmp_path):
    (tmp_path / "long.toml").write_text(LONG.replace("epochs = 60", "epochs = 80"))
    words = ("--time", "9:00", "--scheduler", "slurm", "--out", str(tmp_path / "run"), "--dry-run")
    script = slurm.run(sys.executable, "-m", "dbp", "submit", str(tmp_path / "long.toml"), *words)
    limit = "--time-limit auto"
    assert script.count(limit) == 1
    (tmp_path / "job.sh").write_text(script.replace(limit, f'{limit} --set "seed=$SLURM_ARRAY_TASK_ID"'))
    array = submitted(slurm, tmp_path, "--array=3,8", f"--output={tmp_path}/log-%a", tmp_path / "job.sh")
    tasks = {task: replace(array, id=f"{array.id}_{task}", run=tmp_path / f"run-{task}") for task in ("3", "8")}
    tasks["8"].wait_for_steps(10)  # the last of them, whose number is that of the array
    slurm.run("scancel", "--signal=USR1", "--batch", tasks["8"].id)
    states = {task: job.ended() for task, job in tasks.items()}
    assert {task: state["Restarts"] for task, state in states.items()} == {"3": "0", "8": "1"}
    for task in tasks:
        log = (tmp_path / f"log-{task}").read_text()
        assert re.search(
            rf"^Slurm job \d+_{task}: 1 node, 1 rank per node, 1 core per rank, 0:0[89]:\d\d left$", log, re.M
        )
        assert f"task {task} of an array: its folder is {tmp_path}/run-{task}\n" in log
        assert log.endswith(f"run {tmp_path}/run-{task}: finished\n")
    assert not (tmp_path / "run").exists()
    assert dbp("train", tmp_path / "long.toml", "--out", tmp_path / "alone", "--set", "seed=8").code == 0
    assert digest(tmp_path / "run-8") == digest(tmp_path / "alone") != digest(tmp_path / "run-3")


def test_a_job_that_is_cancelled_stays_so_until_it_is_started_again(slurm, long, tmp_path):
    config, expected = long
    job = submit(slurm, config, tmp_path / "run")
    job.wait_for_steps(20)
    slurm.run("scancel", job.id)
    job.wait(lambda: not slurm.run("squeue", "--noheader", "--jobs", job.id).strip())
    verified = dbp("verify", job.run)
    assert verified.code == 0, verified.text
    again = submit(slurm, config, tmp_path / "run")
    assert again.ended()["JobState"] == "COMPLETED", again.text
    assert "resumed from" in again.text
    assert digest(job.run) == expected
    state = slurm.state(job.id)  # after a longer time than a job waits that is requeued
    assert (state["JobState"], state["Restarts"]) == ("CANCELLED", "0")


def processes_in(slurm, host):
    """Return the processes on a host."""
    network = slurm.hosts.run(host, "readlink", "/proc/self/ns/net").strip()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "net").readlink().as_posix() == network:
                yield int(process.name)


def ranks_in(slurm, host):
    """Return the ranks on a host."""
    for process in processes_in(slurm, host):
        with contextlib.suppress(OSError):
            if b"\0train\0" in Path(f"/proc/{process}/cmdline").read_bytes():
                yield process


def test_a_job_whose_rank_is_killed_is_gone_on_with(slurm, long, tmp_path):
    config, expected = long
    job = submit(slurm, config, tmp_path / "run")
    job.wait_for_steps(20)
    (rank,) = ranks_in(slurm, "h1")
    os.kill(rank, 9)
    assert job.ended()["JobState"] == "COMPLETED", job.text
    assert job.text.count(f"run {job.run}: continued by job {job.id}\n") == 1
    assert digest(job.run) == expected


def srun(slurm, kind, *words, python=sys.executable):
    options = ("--nodes=2", "--ntasks=2", f"--mpi={kind}", "--time=3")
    return run(*slurm.words("srun", *options, python, "-m", "dbp", *map(str, words)))


def refused(outcome, remedy):
    """Return True if ranks that do not see each other were refused with one line for all of them."""
    assert outcome.code == 2, outcome.text
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("dbp: ")]
    return "the launcher started 2 ranks, but each of them sees one rank only" in line and remedy in line


@pytest.mark.parametrize("kind", ["none", "pmi2"])
def test_ranks_that_srun_starts_apart_are_refused_in_one_line(slurm, small, tmp_path, kind):
    assert refused(srun(slurm, kind, "train", small), "start with srun --mpi=pmix")
    assert not (tmp_path / "run").exists()


def test_srun_trains_over_both_nodes(slurm, small, tmp_path, reference):
    if "pmix" not in slurm.run("srun", "--mpi=list") or not slurm.tried("srun", "--mpi=pmix", "echo", "well"):
        pytest.skip("srun has no --mpi=pmix; install libpmix-dev")
    outcome = srun(slurm, "pmix", "train", small)
    assert outcome.code == 0, outcome.text
    assert "2 ranks on 2 nodes (Open MPI" in outcome.out
    assert digest(tmp_path / "run") == reference[0]


def test_srun_trains_with_mpich(slurm, small, tmp_path, reference, mpich_python):
    assert refused(srun(slurm, "none", "train", small, python=mpich_python), "start with srun --mpi=pmi2")
    outcome = srun(slurm, "pmi2", "train", small, python=mpich_python)
    assert outcome.code == 0, outcome.text
    assert "2 ranks on 2 nodes (MPICH" in outcome.out
    assert digest(tmp_path / "run") == reference[0]


def test_a_job_stops_before_its_time_limit_and_goes_on(limited, tmp_path):
    assert limited.ended(2 * LIMIT)["JobState"] == "COMPLETED", limited.text
    assert limited.text.count("(restart 1)") == 1
    assert re.search(r"stop requested by the time limit of \d+", limited.text)
    assert "TIMEOUT" not in limited.text
    assert run(sys.executable, PROGRAMS / "slow_training.py", env={"OUT": str(tmp_path)}).code == 0
    assert digest(limited.run) == digest(tmp_path)


def test_nothing_is_left_of_a_slurm(slurm):
    with Slurm(1) as another:
        job = another.run("sbatch", "--parsable", "--wrap=sleep 100", "--output=/dev/null").strip()
        another.until(job, ("RUNNING",), LIMIT)
        inside = list(processes_in(another, "h0"))
        assert len(inside) > 2  # its daemons, and what the job started
        folder = another.config.parent
    assert not folder.exists()
    assert [process for process in inside if is_running(process)] == []
    assert slurm.run("sinfo", "--noheader", "--format=%D").strip() == "2"

"""Batch jobs under stand-ins for schedulers: real scripts and ranks, and programs of the schedulers' names."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from dbp.batch import before_submit
from dbp.batch.queue_systems import SCHEDULERS, find_scheduler
from dbp.errors import UserError
from tests.batch.conftest import EPOCHS
from tests.batch.queues import slowly, status_of, when_under_way
from tests.batch.submitting import RANKS, kills_rank_0, queue_of, sends, submit
from tests.jobs import dbp, digest, launcher, run
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import ProcessTree, wait_until

# The first of all epochs of the fixture's run, with their schedule.
ONE_EPOCH = ("--set", "epochs=1", "--set", f"schedule.epochs={EPOCHS}")

# --- jobs that follow one another -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "disturb", "continued"),
    [
        ("slurm", lambda run: sends(signal.SIGUSR1, run), "1"),
        ("pbs", kills_rank_0, "2"),
        ("lsf", lambda run: sends(signal.SIGURG, run), "2"),
        ("flux", lambda run: sends(signal.SIGUSR1, run), "2"),
    ],
)
def test_a_job_is_continued_to_the_bits_of_an_unbroken_run(folder, unbroken, scheduler, disturb, continued):
    queue = queue_of(scheduler, folder)
    outcome = submit(folder, *RANKS, "--scheduler", scheduler, env=queue.environment)
    assert outcome.code == 0, outcome.text
    script, last_line = (folder / "run" / f"job-{SCHEDULERS[scheduler].template}").read_text().rstrip().rsplit("\n", 1)
    assert script in outcome.out
    assert "sha256" in last_line
    assert outcome.out.splitlines()[-1].startswith(
        f"submitted run/job-{SCHEDULERS[scheduler].template} as 1; dbp status run"
    )

    first = queue.run_next(disturb(folder / "run"))
    assert (first.code, first.lines[-1]) == (0, f"run run: continued by job {continued}"), first.lines
    second = queue.run_next()
    assert (second.code, second.lines[-1]) == (0, "run run: finished"), second.lines
    assert any("resumed from run/checkpoints" in line for line in second.lines)
    assert queue.waiting == []
    assert digest(folder / "run") == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_a_cancelled_job_is_not_continued(folder, scheduler):
    queue = queue_of(scheduler, folder)
    assert submit(folder, *RANKS, "--scheduler", scheduler, env=queue.environment).code == 0
    job = queue.run_next(sends(signal.SIGTERM, folder / "run"))
    assert (job.code, job.lines[-1]) == (143, "run run: cancelled; submit it again to resume"), job.lines
    assert queue.waiting == []
    assert status_of(folder / "run")["state"] == "stopped"
    assert dbp("status", "run", "--quiet", cwd=folder).code == 75


@pytest.mark.slow
def test_a_run_without_progress_gives_up(folder):
    queue = queue_of("slurm", folder)
    never = ("--set", "checkpoint.every_steps=0", "--set", "checkpoint.every_epochs=0", "--set", "epochs=1000")
    assert submit(folder, *RANKS, *never, "--scheduler", "slurm", env=queue.environment).code == 0
    for _ in range(3):
        job = queue.run_next(kills_rank_0(folder / "run", step=0))
        assert job.lines[-1] == "run run: continued by job 1", job.lines
    last = queue.run_next()
    assert (last.code, last.lines[-1]) == (2, "run run: failed with code 2"), last.lines
    assert "was started 3 times from step 0" in "\n".join(last.lines)
    assert queue.waiting == []

    refused = submit(folder, *RANKS, *never, "--scheduler", "slurm", env=queue.environment)
    assert refused.code == 2
    assert "was started 3 times from step 0" in refused.err
    again = submit(folder, *RANKS, *never, "--retry", "--scheduler", "slurm", env=queue.environment)
    assert again.code == 0, again.text
    assert queue.run_next(sends(signal.SIGUSR1, folder / "run", step=0)).lines[-1].startswith("run run: continued")


@pytest.mark.slow
def test_not_more_jobs_than_were_asked_for(folder):
    queue = queue_of("lsf", folder)
    assert submit(folder, *RANKS, "--most-jobs", "2", "--scheduler", "lsf", env=queue.environment).code == 0
    assert queue.run_next(sends(signal.SIGURG, folder / "run")).lines[-1] == "run run: continued by job 2"
    job = queue.run_next(sends(signal.SIGURG, folder / "run", step=60))
    assert (job.code, job.lines[-1]) == (
        75,
        "run run: failed with code 75: not finished after 2 jobs; submit it again to resume",
    )
    assert queue.waiting == []


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_a_launcher_that_ends_well_is_not_believed(folder, scheduler):
    """Have one end with code 0 that has started nothing; the folder has a finished run, which now has more epochs."""
    assert dbp("train", "c.toml", *ONE_EPOCH, cwd=folder).code == 0
    queue = queue_of(scheduler, folder)
    assert submit(folder, *RANKS, "--scheduler", scheduler, env=queue.environment).code == 0
    script = folder / "run" / f"job-{SCHEDULERS[scheduler].template}"
    script.write_text(script.read_text().replace(launcher(), "true"))
    job = queue.run_next()
    assert (job.code, job.lines) == (1, ["run run: failed with code 1"])
    assert queue.waiting == []


def submit_with_failing_launcher(folder, failures):
    """Submit a job whose launcher fails so many times as Open MPI's does on a busy node, and notes its calls."""
    queue = queue_of("slurm", folder)
    assert submit(folder, *RANKS, "--scheduler", "slurm", env=queue.environment).code == 0
    failing = folder / "programs" / "failing"
    failing.write_text(
        f'#!/bin/bash\necho "call" >> "$NOTES.calls"\n[ "$(wc -l < "$NOTES.calls")" -gt {failures} ] || exit 213\n'
        f'exec {launcher()} "$@"\n'
    )
    failing.chmod(0o755)
    script = folder / "run" / "job-slurm.sbatch"
    script.write_text(script.read_text().replace(launcher(), str(failing)))
    return queue


@pytest.mark.slow
@pytest.mark.parametrize(("failures", "code", "last"), [(1, 0, "finished"), (2, 213, "failed with code 213")])
def test_a_launcher_that_cannot_start_itself_is_started_once_more(folder, failures, code, last):
    """Start from the folder of a finished run, which now has more epochs."""
    assert dbp("train", "c.toml", *ONE_EPOCH, cwd=folder).code == 0
    job = submit_with_failing_launcher(folder, failures).run_next()
    assert (job.code, job.lines[-1]) == (code, f"run run: {last}"), job.lines
    assert (folder / "notes.calls").read_text() == 2 * "call\n"


@pytest.mark.slow
def test_a_job_that_is_cancelled_between_two_starts_of_a_launcher_ends(folder):
    def cancel(process):
        assert wait_until((folder / "notes.calls").exists)
        time.sleep(1)  # in which the launcher ends, and the script begins to wait
        os.kill(process, signal.SIGTERM)

    job = submit_with_failing_launcher(folder, 1).run_next(cancel)
    assert (job.code, job.lines[-1]) == (143, "run run: cancelled; submit it again to resume"), job.lines
    assert (folder / "notes.calls").read_text() == "call\n"


@pytest.mark.slow
def test_where_scontrol_is_missing_a_job_submits_itself(folder):
    queue = queue_of("slurm", folder)
    (folder / "programs" / "scontrol").write_text("#!/bin/sh\nexit 127\n")
    assert submit(folder, *RANKS, "--scheduler", "slurm", env=queue.environment).code == 0
    job = queue.run_next(sends(signal.SIGUSR1, folder / "run"))
    assert job.lines[-1] == "run run: continued by job 2", job.lines
    assert queue.waiting == ["2 --parsable --export=ALL run/job-slurm.sbatch "]


@pytest.mark.slow
def test_this_machine_starts_a_run_again_that_lost_a_rank(folder, unbroken):
    words = (sys.executable, "-m", "dbp", "submit", "c.toml", "--ranks-per-node", "2", "--scheduler", "mpirun")
    with ProcessTree(*words, cwd=folder, env=os.environ | LAUNCHER_SETTINGS | slowly(folder)) as tree:
        assert tree.wait() == 0, tree.out + tree.err  # the job runs on in the background
        kills_rank_0(folder / "run")(0)
        output = folder / "run" / "job-mpirun.out"
        assert wait_until(lambda: "run run: finished" in output.read_text()), output.read_text()
    assert dbp("status", "run", "--quiet", cwd=folder).code == 0
    assert digest(folder / "run") == unbroken
    assert "run run: continued, start 2 of at most 20" in output.read_text().splitlines()


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*RANKS, "--scheduler", "torque"),
            "unknown scheduler 'torque'; valid: flux, kubernetes, lsf, mpirun, pbs, slurm",
        ),
        (("--scheduler", "slurm"), "--time is missing, which slurm needs; for instance --time 4:00:00"),
        (
            ("--scheduler", "slurm", "--time", "soon"),
            "--time takes hours:minutes:seconds such as 4:00:00, or seconds, not 'soon'",
        ),
        (("--scheduler", "slurm", "--time", "0:02"), "--time 0:02 is shorter than a step and a checkpoint of this run"),
        (("--scheduler", "mpirun", "--time", "1:00"), "--time has no meaning for --scheduler mpirun; leave it out"),
        (("--scheduler", "mpirun", "--nodes", "2"), "--scheduler mpirun starts on this machine only, but --nodes is 2"),
        ((*RANKS, "--scheduler", "slurm", "--nodes", "0"), "--nodes must be at least 1, but is 0"),
        ((*RANKS, "--scheduler", "slurm", "--nodes", "3"), "3 x 2 ranks are more than the 4 shards of the run"),
        ((*RANKS, "--scheduler", "slurm", "--set", "epoch=3"), "unknown key 'epoch'; did you mean 'epochs'?"),
        (
            (*RANKS, "--scheduler", "slurm", "--out", "a b"),
            "the run's folder must have a name without spaces and quotes",
        ),
        ((*RANKS, "--scheduler", "slurm", "--name", "A_B"), "--name takes small letters, digits and dashes"),
        (("--scheduler", "kubernetes"), "--image is missing, which kubernetes needs"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(folder, words, message):
    programs = folder / "programs"
    programs.mkdir()
    for name in ("sbatch", "kubectl"):
        (programs / name).write_text("#!/bin/sh\ntouch called\n")
        (programs / name).chmod(0o755)
    outcome = submit(folder, *words, env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert message in outcome.err
    assert sorted(path.name for path in folder.iterdir()) == ["c.toml", "programs"]


def test_the_scheduler_that_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no scheduler was found \(none of sbatch, qsub, bsub, flux is on the PATH\)"):
        find_scheduler(None)
    with pytest.raises(UserError, match="--scheduler lsf needs bsub, which is not on the PATH"):
        find_scheduler("lsf")
    (tmp_path / "qsub").touch(0o755)
    assert find_scheduler(None).name == "pbs"
    (tmp_path / "bsub").touch(0o755)
    with pytest.raises(
        UserError, match=r"several schedulers were found \(qsub, bsub\); name one: --scheduler pbs or lsf"
    ):
        find_scheduler(None)
    assert find_scheduler("lsf").name == "lsf"
    monkeypatch.setenv("SGE_ROOT", "/opt/sge")  # whose qsub is another one
    assert find_scheduler(None).name == "lsf"


def test_a_refusal_of_the_scheduler_is_passed_on(folder):
    programs = folder / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    (programs / "sbatch").chmod(0o755)
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    outcome = submit(folder, *RANKS, "--scheduler", "slurm", env=path)
    assert outcome.code == 2
    assert "sbatch refused the job: sbatch: error: invalid partition" in outcome.err
    assert not (folder / "run").exists()


def test_a_script_that_was_changed_by_hand_is_not_replaced(folder):
    programs = folder / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 7\n")
    (programs / "sbatch").chmod(0o755)
    words, path = (*RANKS, "--scheduler", "slurm"), {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    assert submit(folder, *words, env=path).code == 0
    assert submit(folder, *words, "--nodes", "2", env=path).code == 0  # the script is still as it was written
    script = folder / "run" / "job-slurm.sbatch"
    script.write_text(script.read_text().replace("#SBATCH --requeue", "#SBATCH --requeue\n#SBATCH --qos=long"))
    changed = script.read_text()
    outcome = submit(folder, *words, env=path)
    assert (outcome.code, script.read_text()) == (2, changed)
    assert "job-slurm.sbatch was changed by hand, which would be lost; submit it with sbatch run/job-slu" in outcome.err


def test_a_launcher_of_another_mpi_is_told(tmp_path, monkeypatch):
    """There is no mpirun beside the Python, and the one on the PATH belongs to MPICH."""
    (tmp_path / "mpirun").write_text("#!/bin/sh\necho HYDRA\n")
    (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(before_submit, "library_vendor", lambda: ("Open MPI", 5))
    with pytest.raises(UserError, match="mpi4py loads Open MPI, but no mpirun of Open MPI is on the PATH"):
        before_submit.find_mpi()
    monkeypatch.setattr(before_submit, "library_vendor", lambda: ("MPICH", 4))
    assert before_submit.find_mpi() == ("MPICH", str(tmp_path / "mpirun"))
    monkeypatch.setattr(before_submit, "library_vendor", lambda: (None, 0))
    with pytest.raises(UserError, match="no MPI library was found, so that each rank would train alone"):
        before_submit.find_mpi()


@pytest.mark.slow
def test_a_run_that_is_finished_or_another_is_not_submitted(folder):
    words = ("--ranks-per-node", "2", "--time", "1:00:00", "--scheduler", "pbs", "--dry-run")
    assert dbp("train", "c.toml", *ONE_EPOCH, cwd=folder).code == 0
    message = "is finished; raise epochs to train it further"
    shown = submit(folder, *words, "--set", "epochs=1")
    assert (shown.code, shown.out[:2], message in shown.err) == (0, "#!", True)
    finished = submit(folder, "--scheduler", "mpirun", "--set", "epochs=1")
    assert (finished.code, finished.out, message in finished.err) == (2, "", True)
    other = submit(folder, *words, "--set", "optimizer.learning_rate=0.5")
    assert other.code == 2
    assert "is of another run" in other.err
    accepted = ("--set", "optimizer.learning_rate=0.5", "--accept", "optimizer.learning_rate")
    assert submit(folder, *words, *accepted).code == 0


@pytest.mark.slow
def test_a_folder_at_which_a_live_run_is(folder):
    """A new job is refused at once; one that was queued before is refused when it starts, and leaves the run alone."""
    queue = queue_of("pbs", folder)
    assert submit(folder, *RANKS, "--scheduler", "pbs", env=queue.environment).code == 0
    command = (sys.executable, "-m", "dbp", "train", "c.toml", "--set", "epochs=1000")
    with ProcessTree(*command, cwd=folder, env={**os.environ, **slowly(folder)}) as live:
        when_under_way(folder / "run", 30)
        refused = submit(folder, *RANKS, "--scheduler", "pbs", env=queue.environment)
        job = queue.run_next()
        assert live.process.poll() is None
    assert refused.code == 2
    there = f"host {socket.gethostname()}, process {live.process.pid}"
    assert f"folder run belongs to a run that is still running ({there}" in refused.err
    assert (job.code, job.lines[-1]) == (2, "run run: failed with code 2"), job.lines
    assert queue.waiting == []


@pytest.mark.slow
def test_a_job_with_mpich(folder, unbroken, mpich_python):
    queue = queue_of("pbs", folder)
    outcome = run(
        mpich_python, "-m", "dbp", "submit", "c.toml", *RANKS, "--scheduler", "pbs", cwd=folder, env=queue.environment
    )
    assert outcome.code == 0, outcome.text
    assert f"{Path(mpich_python).parent}/mpirun" in outcome.out
    first = queue.run_next(sends(signal.SIGUSR1, folder / "run"))
    assert (first.code, first.lines[-1]) == (0, "run run: continued by job 2"), first.lines
    assert queue.run_next().lines[-1] == "run run: finished"
    assert digest(folder / "run") == unbroken


@pytest.mark.slow
def test_a_time_limit_shorter_than_what_was_measured(folder):
    assert dbp("train", "c.toml", *ONE_EPOCH, cwd=folder).code == 0
    told = status_of(folder / "run") | {"step_seconds": 2.0, "save_seconds": 100.0}
    (folder / "run" / "status.json").write_text(json.dumps(told))
    words = ("--ranks-per-node", "2", "--scheduler", "pbs", "--dry-run", "--time")
    short = submit(folder, *words, "0:03:00")
    assert short.code == 2
    assert "--time 0:03:00 is shorter than a step and a checkpoint of this run, which take 206 s" in short.err
    assert submit(folder, *words, "0:10:00").code == 0

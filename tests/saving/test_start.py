"""A run in a batch job: its time limit, its folder, its ranks."""

import os
import signal
import time
import tomllib
from dataclasses import replace

import pytest

from dbp.config.from_table import settings_from
from dbp.errors import Interrupted, Stopped
from dbp.job import Job
from dbp.saving.start import Start, in_job
from dbp.saving.stopping import signals
from dbp.text import TIME_OF_JOB
from tests.jobs import SMALL
from tests.saving.short_runs import run


@pytest.fixture
def settings():
    return settings_from(tomllib.loads(f'out = "runs/small"\n{SMALL}'))


def test_a_job_decides_on_the_time_limit_and_the_folder(settings):
    job, start = Job("Slurm", "12_3", "3", 1, 2, 4, 2), Start(time_limit=TIME_OF_JOB, ranks=8)
    found, begun = in_job(settings, start, job, 3661.5)
    assert found == replace(settings, out="runs/small-3")
    assert begun.limit == pytest.approx(3661.5 - 10 + time.monotonic() - signals.since, abs=5)
    assert begun.job_lines == (
        "Slurm job 12_3 (restart 1): 2 nodes, 4 ranks per node, 2 cores per rank, 1:01:01 left",
        "task 3 of an array: its folder is runs/small-3",
    )


def test_without_an_end_or_a_scheduler_there_is_no_time_limit(settings):
    start = Start(time_limit=TIME_OF_JOB, ranks=8)
    assert in_job(settings, start, None, None) == (
        settings,
        replace(start, time_limit=None, job_lines=("no scheduler, so no time limit",)),
    )
    lines = in_job(settings, start, Job("LSF", "17"), None)[1].job_lines
    assert lines == ("LSF job 17", "LSF reports no end of this job, so there is no time limit")
    assert in_job(settings, Start(ranks=1), None, None)[1].job_lines == ()


def test_one_rank_in_a_job_of_several_is_warned(settings):
    job = Job("Slurm", "17", None, 0, 2, 4, 2)
    lines = in_job(settings, Start(ranks=1), job, None)[1].job_lines
    assert lines[1] == "warning: the job was given 8 ranks, but this is one alone; start it with srun or mpirun"
    assert len(in_job(replace(settings, threads=8), Start(ranks=1), job, None)[1].job_lines) == 1


@pytest.mark.parametrize(("number", "out", "code"), [(signal.SIGTERM, True, 75), (signal.SIGINT, False, 130)])
def test_a_signal_ends_a_long_check_of_data_before_the_first_step(tmp_path, monkeypatch, capsys, number, out, code):
    monkeypatch.setattr("dbp.run.sources.PATIENCE_SECONDS", -1.0)
    with signals:
        os.kill(os.getpid(), number)
        with pytest.raises((Interrupted, Stopped)) as stopped:
            run(tmp_path / "run" if out else None, Start())
    assert getattr(stopped.value, "exit_code", stopped.value.args[0]) == code
    assert getattr(stopped.value, "result", None) is None
    assert "before the first step of this start" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert run().steps == 16

"""Injected faults: nothing is lost, hangs, or has other bits. benchmarks/faults.py injects more of each kind."""

import contextlib
import json
import os
import random
import signal
import sys
import time

import pytest

from dbp.checkpoint import checkpoints_of
from tests.fault_injection import folder_events, injector, kinds, outside_events, train_jobs
from tests.fault_injection.hostile import HOSTILE
from tests.fault_injection.injector import ALWAYS, FAULTS
from tests.fault_injection.reference_run import wrong_in
from tests.jobs import ROOT, dbp, digest, launcher, mpirun
from tests.launcher import LAUNCHER_SETTINGS, ONCE_MORE
from tests.processes import ProcessTree, wait_until

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(injector.why_not() is not None, reason=str(injector.why_not()))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return a folder for jobs with the run that they must equal."""
    launcher()
    return train_jobs.Bench.prepare(tmp_path_factory.mktemp("bench") / "jobs")


@pytest.fixture
def context(bench, tmp_path):
    return kinds.FaultContext(tmp_path, bench, random.Random(int(os.environ.get("DBP_TEST_SEED", "0"))))


# --- file calls that fail -------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_every_file_call_of_a_save_may_fail(context, fault):
    """Let all changing calls and every third of the others fail in turn, once or for good, until no call is left."""
    folder, step = context.fresh("saves"), 1 if fault in ("ENOSPC", "EDQUOT") else 3
    cases = json.dumps([(fault, count, 1, step) for count in (1, ALWAYS)])
    environment = injector.environment(folder / "run")
    result = list(kinds.program("fail_saves.py", str(folder), cases, environment=environment))
    assert [x for x in result if x["wrong"]] == []
    for count in (1, ALWAYS):
        calls = [x["at"] for x in result if x["count"] == count]
        assert calls == list(range(1, 1 + step * len(calls), step))
        assert len(calls) * step >= 15


@needs_compiler
def test_a_save_that_writes_in_place_would_be_found_out(context):
    """The sweep finds a save that is not atomic."""
    folder = context.fresh("saves")
    (folder / "sitecustomize.py").write_text(
        "import contextlib\n"
        "from dbp.checkpoint import writing\n"
        "@contextlib.contextmanager\n"
        "def in_place(path, check=None, replaces=True):\n"
        "    with path.open('wb') as file:\n"
        "        yield file\n"
        "writing.new_file = in_place\n"
    )
    environment = injector.environment(folder / "run") | {"PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'benchmarks'}"}
    result = list(
        kinds.program("fail_saves.py", str(folder), json.dumps([("SIGKILL", 1, 1, 2)]), environment=environment)
    )
    assert [x for x in result if x["wrong"].startswith("loss")] != []


@needs_compiler
def test_file_calls_of_a_training_may_fail(context):
    """Calls fail once or for good, from start or checkpoint; the resumed run has the bits of an unbroken one."""
    cases = list(kinds.trainings(context, 8))
    assert [case for case in cases if case.wrong] == []
    assert sum(case.met for case in cases) > 4


@needs_compiler
@pytest.mark.parametrize(("fault", "at", "count"), [("ENOSPC", 100, ALWAYS), ("EIO", 150, 1)])
def test_file_calls_of_a_job_may_fail(bench, fault, at, count):
    assert train_jobs.with_disk(bench, 2, FAULTS[fault], at, count, again=0) == ("", True)


def test_full_disks(bench, tmp_path):
    """Training continues with one warning; checkpoints are written once there is room, else the exit code is 74."""
    if reason := folder_events.why_no_disks(tmp_path):
        pytest.skip(reason)
    assert folder_events.by_full_disk(bench, 2, again=0, heals=True) == ""
    assert folder_events.by_full_disk(bench, 2, again=0, heals=False) == ""
    assert folder_events.by_read_only(bench, 2) == ""


# --- files that are not as they were written -----------------------------------------------------------


def test_changed_bytes_are_noticed(context):
    assert [case for case in kinds.images(context, 100) if case.wrong] == []


@needs_compiler
def test_hostile_files_are_refused(context):
    """The refusal takes one line, a second, little memory, and opens no other file."""
    cases = list(kinds.hostile(context, len(HOSTILE)))
    assert {case.words for case in cases} == set(HOSTILE)
    assert [case for case in cases if case.wrong] == []


def test_hostile_files_in_a_runs_folder_are_passed_over(bench):
    """Each of some lies there as a newer checkpoint, is reported, and is kept under another name."""
    names = [name for name in HOSTILE if name not in kinds.ANOTHER_RUN and "60 MB" not in name]
    assert folder_events.by_bad_files(bench, 1, 0, names[::3]) == ""


@pytest.mark.parametrize("name", kinds.ANOTHER_RUN)
def test_a_checkpoint_of_another_run_is_refused_and_nothing_touched(bench, name):
    assert "ended with 2" in folder_events.by_bad_files(bench, 1, 0, [name])
    assert len(list(bench.run.rglob("*.damaged"))) == 0
    assert "damaged" not in "".join(path.name for path in bench.run.rglob("*"))


# --- stopping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "victims", "stage", "numbers"),
    [
        (3, [0, 1, 2], "start", [signal.SIGINT]),
        (5, [0], "steps", [signal.SIGUSR1, signal.SIGUSR1]),  # one that has no shard, twice
        pytest.param(2, [1], "save", [signal.SIGUSR2], marks=needs_compiler),
    ],
)
def test_a_signal_saves_and_stops(bench, ranks, victims, stage, numbers):
    result = train_jobs.with_signals(bench, ranks, victims, stage, numbers)
    assert train_jobs.wrong_stop(bench, result, again=0) == ""


def test_signals_until_the_very_end_are_harmless(bench):
    result = train_jobs.with_signals(bench, 2, [0, 1], "steps", [signal.SIGUSR1] * 40)
    assert train_jobs.wrong_stop(bench, result, again=0) == ""


@pytest.mark.parametrize(("rank", "where", "way", "code"), [("all", 1, "SIGTERM", 75), (0, 0, "SIGTERM", 0)])
def test_a_signal_in_the_first_and_the_last_steps(bench, rank, where, way, code):
    at = where if where > 0 else bench.reference.last + where
    result = train_jobs.with_event(bench, 2, rank, "step", at, way)
    assert result.code == code, result.text
    assert train_jobs.wrong_stop(bench, result, again=0) == ""


def test_a_second_interrupt_ends_at_once(bench):
    result = train_jobs.with_event(bench, 2, 1, "step", 50, "SIGINT,wait0.2,SIGINT")
    assert result.code not in (0, 75), result.text
    assert train_jobs.wrong_death(bench, result, again=0) == ""


@pytest.mark.parametrize("by", [folder_events.by_stop_file, folder_events.by_time_limit])
def test_other_ways_to_stop(bench, by):
    assert by(bench, 2, again=0) == ""


# --- ranks that die ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "victim", "stage", "number"),
    [
        (3, 0, "start", signal.SIGSEGV),
        pytest.param(3, 2, "save", signal.SIGKILL, marks=needs_compiler),
    ],
)
def test_all_end_when_a_rank_dies(bench, ranks, victim, stage, number):
    result = train_jobs.with_signals(bench, ranks, [victim], stage, [number])
    assert result.code != 0
    assert train_jobs.wrong_death(bench, result, again=0) == ""


@pytest.mark.parametrize(
    ("rank", "moment", "at", "way"),
    [(0, "begin", 1, "raise"), (1, "save", 3, "exit0"), (2, "evaluate", 2, "exit3")],
)
def test_all_end_when_a_rank_raises_or_leaves(bench, rank, moment, at, way):
    result = train_jobs.with_event(bench, 3, rank, moment, at, way)
    assert result.code != 0
    assert train_jobs.wrong_death(bench, result, again=0) == ""


@pytest.mark.parametrize(("ranks", "victims", "moment", "at"), [(4, "1,3", "update", 9), (3, "0", "write", 3)])
def test_some_outlive_others(bench, ranks, victims, moment, at):
    result = train_jobs.with_event(bench, ranks, victims, moment, at, "SIGKILL", survive=True)
    assert result.code == 0, result.text
    assert "they resume from " in result.text
    assert train_jobs.wrong_survival(bench, result, again=0) == ""


# --- the folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [folder_events.by_two_jobs, folder_events.by_dying_again])
def test_other_jobs_in_the_folder(bench, by):
    assert by(bench, 1, again=0) == ""


def test_going_on_twice_within_an_epoch_and_at_its_very_end(bench):
    """An epoch has 26 steps: the run is killed in steps 10, 20 and 28 and resumes from 7, 14 and 26."""
    for number, (step, saved) in enumerate([(10, 7), (20, 14), (28, 26)]):
        at = step - (0, 7, 14)[number]  # counted from where it goes on
        ways = f"until:checkpoints/{checkpoints_of(bench.run).path_of(saved).name},SIGKILL"
        with bench.job(0, happens=("0", "step", str(at), ways), fresh=number == 0) as job:
            assert job.wait() == -signal.SIGKILL
        assert train_jobs.newest_step(bench.run) == saved
        assert wrong_in(bench.run, bench.reference, finished=False) == ""
    assert bench.resume(2) == ""


@pytest.mark.parametrize("by", [outside_events.by_two_runs, outside_events.by_links, outside_events.by_cut_data])
def test_events_from_outside_of_a_job(bench, by):
    assert by(bench, 2, 0) == ""


# --- jobs killed at random ----------------------------------------------------------------------------------


def test_a_job_killed_at_random_moments_ends_with_the_same_weights(small, tmp_path):
    """Kill one or both ranks in job after job, at its start or some steps later; then finish the run."""
    longer = ("--set", "epochs=25")
    assert dbp("train", small, *longer, "--out", tmp_path / "whole").code == 0
    rng = random.Random(int(os.environ.get("DBP_TEST_SEED", "0")))
    command = [sys.executable, "-m", "dbp", "train", str(small), *longer, "--set", "checkpoint.every_steps=7"]
    killed = 0
    for number in range(8):
        early, least = number % 2 == 0, train_jobs.newest_step(tmp_path / "run") + rng.randrange(60)
        with ProcessTree(*ONCE_MORE, launcher(), "-n", 2, *command, env=os.environ | LAUNCHER_SETTINGS) as job:

            def has_come(job=job, early=early, least=least):
                come = job.ranks() if early else train_jobs.newest_step(tmp_path / "run") > least
                return come or job.process.poll() is not None

            assert wait_until(has_come)
            time.sleep(rng.uniform(0, 1.0 if early else 0.1))
            ranks = job.ranks()
            for pid in rng.sample(ranks, rng.choice([1, len(ranks)])) if ranks else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            job.wait()
    assert killed >= 4
    outcome = mpirun(3, *command[1:])
    assert outcome.code == 0, outcome.text
    assert "resumed from" in outcome.out
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.partial"))

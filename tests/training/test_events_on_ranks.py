"""Listeners on rank 0 of several: their answers reach all ranks."""

import pytest

from tests.jobs import PROGRAMS, digest, mpirun

pytestmark = pytest.mark.slow


def train(ranks, out, action):
    return mpirun(ranks, PROGRAMS / "listening_training.py", out, action)


def test_stop_ends_all_ranks_after_the_same_step_and_another_number_goes_on(tmp_path):
    outcome = train(3, tmp_path / "stopped", "stop")
    assert outcome.code == 0, outcome.text
    assert sorted(line for line in outcome.out.splitlines() if line.startswith("rank")) == [
        f"rank {rank} of 3: 3 steps" for rank in range(3)
    ]
    assert outcome.out.count("stopped by listener watcher: 0 epochs, 3 steps") == 1
    assert train(2, tmp_path / "stopped", "hear").code == 0
    assert train(1, tmp_path / "unbroken", "hear").code == 0
    assert digest(tmp_path / "stopped") == digest(tmp_path / "unbroken")


def test_a_failure_ends_all_ranks_and_is_told_once(tmp_path):
    outcome = train(2, tmp_path / "run", "fail")
    assert outcome.code == 1, outcome.text
    assert outcome.err.count("Traceback") == 1
    message = "dbp: error: listener watcher failed after step 2: ValueError: two (listening_training.py, line"
    assert outcome.err.replace("\n    ", " ").count(message) == 1
    assert "saved step 3" in outcome.err.replace("\n    ", " ")


def test_a_listener_predicts_with_a_checkpoint_on_rank_0_alone(tmp_path):
    found = {}
    for ranks in (1, 2):
        outcome = train(ranks, tmp_path / f"on-{ranks}", "predict")
        assert outcome.code == 0, outcome.text
        lines = [line for line in outcome.out.splitlines() if line.startswith(f"listener on rank 0 of {ranks}: ")]
        found[ranks] = [line.split(": ")[1] for line in lines]
    assert len(found[1]) == 2
    assert found[2] == found[1]


def test_a_listener_that_trains_on_all_ranks_is_refused_and_does_not_hang(tmp_path):
    outcome = train(2, tmp_path / "run", "train")
    assert outcome.code == 1, outcome.text
    assert "on one rank alone" in outcome.err.replace("\n    ", " ")

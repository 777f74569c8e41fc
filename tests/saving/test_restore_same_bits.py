"""Runs that resume from a checkpoint: the same bits as an unbroken run."""

import dataclasses
import shutil
import tomllib

import pytest

from dbp.checkpoint import checkpoints_of, digest_arrays
from dbp.config.settings import Checkpoint
from dbp.errors import UserError
from dbp.optim import Cosine
from dbp.parallel import Arena, Node
from tests.jobs import newest_checkpoint
from tests.training.fit_runs import BASE, run


def test_no_weights_are_drawn_where_a_run_goes_on(tmp_path, monkeypatch):
    whole = run(epochs=2)
    run(epochs=1, out=str(tmp_path))
    monkeypatch.setattr(Arena, "fill", None)
    again = run(epochs=2, out=str(tmp_path), accept=("epochs",))
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    with pytest.raises(TypeError):
        run(epochs=1)


@pytest.mark.parametrize("step", range(3, 16))
def test_from_every_checkpoint_to_the_same_weights_and_history(tmp_path, step):
    """Checkpoints lie in the middle of an epoch, at its end, and twice in one epoch."""
    whole = run(out=str(tmp_path / "whole"), checkpoint=Checkpoint(every_steps=1, keep=100))
    part = tmp_path / "part" / "checkpoints"
    part.mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "checkpoints" / f"step-{step:09d}.h5", part)
    resumed = run(out=str(tmp_path / "part"))
    assert digest_arrays(resumed.weights) == digest_arrays(whole.weights)
    for name, column in whole.history.items():
        if name != "seconds":
            assert resumed.history[name] == column
    assert resumed.test == whole.test


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(out=str(tmp_path))
    files = [p.name for p in checkpoints_of(tmp_path).files()]
    config = (tmp_path / "config.toml").read_bytes()
    again = run(out=str(tmp_path), epochs=3)
    assert (tmp_path / "config.toml").read_bytes() == config
    assert digest_arrays(again.weights) == digest_arrays(first.weights)
    assert again.test == first.test
    assert [p.name for p in checkpoints_of(tmp_path).files()] == files


def test_more_epochs_go_on_from_the_end(tmp_path):
    constant = dataclasses.replace(BASE, schedule=Cosine(final_factor=1.0))
    run(constant, out=str(tmp_path), epochs=2)
    longer = run(constant, out=str(tmp_path), epochs=4)
    assert digest_arrays(longer.weights) == digest_arrays(run(constant).weights)


def test_the_checkpoint_decides_the_shards_if_the_settings_do_not(tmp_path):
    run(out=str(tmp_path), epochs=2)
    resumed = run(out=str(tmp_path), shards=None, accept=("epochs",))
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint.progress["shards"] == 3
    assert resumed.steps == 16


def on_cores(monkeypatch, count):
    node = Node("here", {0: frozenset(range(count))}, frozenset(range(count)))
    monkeypatch.setattr("dbp.training.fit.nodes_of", lambda comm: [node])


def test_the_checkpoint_decides_the_threads_if_the_settings_do_not(tmp_path, monkeypatch):
    on_cores(monkeypatch, 2)
    run(out=str(tmp_path), epochs=2, threads="auto")
    on_cores(monkeypatch, 1)
    run(out=str(tmp_path), threads="auto", accept=("epochs",))
    assert newest_config(tmp_path)["threads"] == 2
    with pytest.raises(UserError, match=r"threads: 2 in the checkpoint, 1 now.*--fresh"):
        run(out=str(tmp_path), threads=1)
    run(out=str(tmp_path), threads=2)
    run(out=str(tmp_path), threads="auto", fresh=True)
    assert newest_config(tmp_path)["threads"] == 1


def newest_config(folder):
    checkpoint = newest_checkpoint(folder)
    return tomllib.loads(checkpoint.config)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    whole = run(out=str(tmp_path))
    newest = checkpoints_of(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:999])
    assert digest_arrays(run(out=str(tmp_path)).weights) == digest_arrays(whole.weights)


def test_fresh_keeps_the_old_run_unless_told_otherwise(tmp_path):
    first = run(out=str(tmp_path), seed=0)
    second = run(out=str(tmp_path), seed=1, fresh=True)
    assert digest_arrays(first.weights) != digest_arrays(second.weights)
    old = newest_checkpoint(tmp_path / "checkpoints-old-1")
    assert digest_arrays(old.model) == digest_arrays(first.weights)
    run(out=str(tmp_path), seed=2, fresh=True, overwrite=True)
    assert not (tmp_path / "checkpoints-old-2").exists()


def test_only_damaged_checkpoints_are_not_trained_over(tmp_path):
    run(out=str(tmp_path), checkpoint=Checkpoint(keep=1))
    for path in checkpoints_of(tmp_path).files():
        path.write_text("no")
    with pytest.raises(UserError, match=r"none of them is intact; start over with --fresh \(checkpoint .* is damaged"):
        run(out=str(tmp_path))

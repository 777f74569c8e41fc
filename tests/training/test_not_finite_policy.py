"""Steps that are not finite: skipped, or undone by a rollback, with the same bits however a run is interrupted."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest

from dbp.checkpoint import checkpoints_of, digest_arrays, read, step_of
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping, NotFinite
from dbp.errors import NotFiniteError, UserError
from dbp.optim import LBFGS, SGD, Adam
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from dbp.training.not_finite_policy import NotFinitePolicy
from tests.jobs import PROGRAMS, dbp, launcher, mpirun, newest_checkpoint, run
from tests.training.not_finite_runs import BASE, ChangingData, X, Y, failing, with_row, words

# --- skipping -----------------------------------------------------------------------------------------

BAD = Data((np.full((12, 5), 1e30), Y))


def test_only_so_many_steps_in_a_row_are_skipped():
    told = failing(data=BAD, not_finite=NotFinite("skip", skip_at_most=4))
    assert (
        "at step 5 (epoch 2, cost inf): training stops, as not_finite.skip_at_most = 4 steps in a row were skipped"
        in words(told)
    )
    assert told.endswith("  try a smaller learning_rate or clip_norm")


def test_a_step_that_is_done_begins_the_row_anew():
    """Skip one of the three steps of an epoch."""
    changes = {"optimizer": SGD(0.01), "not_finite": NotFinite("skip", skip_at_most=1), "seed": 2}
    settings = dataclasses.replace(BASE, data=Data((with_row(7, 1e30), Y)), **changes)
    result = train(settings, OneProcess(), Start(quiet=True))
    assert result.history["skipped"] == [1, 1, 1]


def test_the_row_goes_on_after_resuming(tmp_path):
    skip = NotFinite("skip", skip_at_most=4)
    settings = dataclasses.replace(BASE, data=BAD, not_finite=skip, epochs=1, out=str(tmp_path))
    train(settings, OneProcess(), Start(quiet=True))
    with pytest.raises(NotFiniteError, match=r"at step 5 "):
        train(dataclasses.replace(settings, epochs=3), OneProcess(), Start(quiet=True))


# --- rollback ---------------------------------------------------------------------------------------

OPTIONS = {"sgd": {"factor": 0.25}, "adam": {"factor": 1e-4}}
OPTIONS = {case: json.dumps({"action": "roll_back", **more}) for case, more in OPTIONS.items()}


@pytest.fixture(scope="module", params=["sgd", "adam"])
def unbroken(request, tmp_path_factory):
    """Return a case and what one rank reports of it without an interruption."""
    folder = tmp_path_factory.mktemp(request.param)
    outcome = mpirun(1, PROGRAMS / "not_finite_training.py", request.param, OPTIONS[request.param], folder)
    assert outcome.code == 0, outcome.text
    assert "learning rate times" in outcome.out
    return request.param, rollbacks_of(outcome), folder


def rollbacks_of(outcome):
    """Return the rollbacks of a run, and its result."""
    steps = re.findall(
        r"not finite at step \d+ .*?: rolled back to step \d+, learning rate times \S+", words(outcome.out)
    )
    return steps, result_of(outcome)


def result_of(outcome):
    return re.findall("^digest .*$", outcome.out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(("unbroken", "ranks"), [("sgd", 3), ("adam", 2)], indirect=["unbroken"])
def test_the_same_way_on_any_number_of_ranks(unbroken, tmp_path, ranks):
    case, expected, folder = unbroken
    outcome = mpirun(ranks, PROGRAMS / "not_finite_training.py", case, OPTIONS[case], tmp_path)
    assert outcome.code == 0, outcome.text
    assert rollbacks_of(outcome) == expected
    mine, theirs = (newest_checkpoint(f) for f in (tmp_path, folder))
    for name in (
        "rate_factor",
        "rollbacks",
        "failed_step",
        "last_checkpoint_step",
        "previous_checkpoint_step",
        "step",
        "best_step",
    ):
        assert mine.progress[name] == theirs.progress[name]
    kept = [sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (tmp_path, folder)]
    assert kept[0] == kept[1]


EVEN, ODD = ((2, 2), (1, 5), (3, 4)), ((3, 3), (2, 1), (1, 7))  # starts: ranks, and steps until the stop


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unbroken", "how", "starts"),
    [("sgd", "KILL", EVEN), ("adam", "USR1", ODD)],
    indirect=["unbroken"],
)
def test_the_same_bits_however_interrupted(unbroken, tmp_path, how, starts):
    """Stops follow one another, each on so many ranks after so many steps, before and after the rollback."""
    case, (_, expected), _ = unbroken
    code = {"KILL": None, "USR1": 75}[how]
    for ranks, count in starts:
        words = (case, OPTIONS[case], tmp_path, f"step:{count}:{how}")
        outcome = mpirun(ranks, PROGRAMS / "not_finite_training.py", *words)
        assert outcome.code == code if code else outcome.code != 0, outcome.text
        assert not result_of(outcome)
    outcome = mpirun(2, PROGRAMS / "not_finite_training.py", case, OPTIONS[case], tmp_path)
    assert outcome.code == 0, outcome.text
    assert result_of(outcome) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("unbroken", "stage"), [("sgd", "restore:1"), ("adam", "back:1")], indirect=["unbroken"])
def test_ranks_that_outlive_another_go_the_same_way(unbroken, tmp_path, stage):
    """A rank dies after a step, while the state is restored, or right after that."""
    case, (_, expected), _ = unbroken
    words = (PROGRAMS / "not_finite_training.py", case, OPTIONS[case], tmp_path, f"{stage}:KILL")
    outcome = run(launcher(), "--with-ft", "ulfm", "-n", 3, sys.executable, *words)
    assert outcome.code == 0, outcome.text
    assert "rank 2 died, 2 of 3 live: they resume from" in outcome.err
    assert result_of(outcome) == expected


ROLLING_BACK = dataclasses.replace(
    BASE,
    optimizer=SGD(100),
    not_finite=NotFinite("roll_back", factor=1e-3),
    checkpoint=Checkpoint(every_steps=2, keep=1),
    early_stopping=EarlyStopping(metric="cost", restore_best=True),
    epochs=6,
    out="a folder of each test's own",
)


def train_in(folder, settings=ROLLING_BACK, **changes):
    return train(dataclasses.replace(settings, out=str(folder), **changes), OneProcess(), Start())


def test_a_rollback_removes_what_is_later(tmp_path, monkeypatch):
    """Later checkpoints, history and best weights are removed; the next save writes the weights that are the best."""
    seen = []
    restored = NotFinitePolicy._tidy

    def tidied(self, damaged):
        restored(self, damaged)
        files, step = checkpoints_of(tmp_path).files(), self._run.progress.step
        assert step_of(files[-1]) == step
        rows = (tmp_path / "history.csv").read_text().splitlines()[1:]
        assert len(rows) == self._run.progress.epoch == step // 3
        assert not (tmp_path / "checkpoints" / "best.h5").exists()
        assert self._run.progress.best_step <= step
        seen.append(step)

    monkeypatch.setattr(NotFinitePolicy, "_tidy", tidied)
    result = train_in(tmp_path)
    assert len(seen) > 1
    assert max(seen) > 0
    assert result.history["step"][-1] == 18
    best = read(tmp_path / "checkpoints" / "best.h5")
    assert best.progress["epoch"] == 1 + np.argmin(result.history["cost"]) == result.epoch
    assert digest_arrays(best.model) == digest_arrays(result.weights)
    assert newest_checkpoint(tmp_path).progress["rate_factor"] == pytest.approx(1e-3 ** len(seen))
    assert result.history["learning_rate"][-1] == pytest.approx(100 * 1e-3 ** len(seen))


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch, capsys):
    """A run rolls back to the checkpoint before a damaged one."""
    whole, damaged = NotFinitePolicy._restore, []

    def restore(self):
        path = checkpoints_of(tmp_path).path_of(self._run.progress.not_finite.rollback_target(self._run.progress.step))
        if not damaged and step_of(path) > 0:
            damaged.append(path)
            path.write_bytes(path.read_bytes()[:-200])
        return whole(self)

    monkeypatch.setattr(NotFinitePolicy, "_restore", restore)
    train_in(tmp_path, checkpoint=Checkpoint(every_steps=2, keep=3))
    before, _, after = words(capsys.readouterr().out).partition(f"warning: checkpoint {damaged[0]} is damaged")
    assert "back to step" not in before
    assert re.search(r"back to step (\d+),", after)[1] == "0"
    assert damaged[0].with_name(damaged[0].name + ".damaged").exists()


def test_only_so_many_rollbacks(tmp_path, capsys):
    """A smaller step does not help; then the run can be resumed with other settings."""
    data = Data((with_row(2, 1e30), Y))
    limited = NotFinite("roll_back", at_most=2)
    settings = dataclasses.replace(ROLLING_BACK, data=data, optimizer=SGD(0.01), not_finite=limited)
    with pytest.raises(NotFiniteError) as caught:
        train_in(tmp_path, settings)
    assert "training stops, as the run has rolled back not_finite.at_most = 2 times" in words(str(caught.value))
    out = capsys.readouterr().out
    assert out.count("warning: the cost is not finite") == 2
    assert out.count("first not finite: the loss mean_squared_error, of finite outputs") == 1
    assert train_in(tmp_path, settings, not_finite=NotFinite("skip")).history["skipped"] == [1] * 6
    assert "not_finite.action: 'roll_back' in the checkpoint, 'skip' now" in capsys.readouterr().out


def test_there_must_be_a_step_before(tmp_path):
    with pytest.raises(NotFiniteError, match=r"as\s+there is no intact checkpoint from before it to roll\s+back to"):
        train_in(tmp_path, data=BAD)


def test_a_rollback_does_not_repair_the_data(tmp_path):
    with pytest.raises(NotFiniteError, match=r"training\s+stops, as a\s+rollback"):
        train_in(tmp_path, data=Data(ChangingData(X, Y, [7])), optimizer=Adam())


def test_a_run_that_has_stopped_can_roll_back(small):
    """The command line resumes the run with the same command and more."""
    blown = ("--set", "optimizer={ kind = 'sgd', learning_rate = 1e38 }", "--set", "schedule={ kind = 'constant' }")
    stopped = dbp("train", small, *blown)
    assert stopped.code == 70, stopped.text
    assert "dbp: error: the cost is not finite at step 3 (epoch 1, cost inf): training stops\n" in stopped.err
    way = ("--set", "not_finite.action='roll_back'", "--set", "not_finite.factor=1e-38")
    again = dbp("train", small, *blown, *way)
    assert again.code == 0, again.text
    assert "back to step 0, learning rate times 1e-38" in " ".join(again.out.split())


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "rollback"}, "^unknown not_finite.action 'rollback'; did you mean 'roll_back'"),
        ({"skip_at_most": 0}, "^not_finite.skip_at_most must be at least 1, but is 0"),
        ({"at_most": 0}, "^not_finite.at_most must be at least 1, but is 0"),
        ({"factor": 1.0}, "^not_finite.factor must be between 0 and 1, but is 1.0"),
        ({"factor": 0.0}, "^not_finite.factor must be between 0 and 1, but is 0.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        NotFinite(**options)


def test_a_rollback_needs_a_folder():
    message = "not_finite.action = 'roll_back' needs checkpoints to roll back to, but out is None; set it to a folder"
    with pytest.raises(UserError, match=message):
        dataclasses.replace(BASE, not_finite=NotFinite("roll_back"))


def test_methods_that_look_for_another_step_themselves_stop():
    message = "not_finite.action must be 'stop' with optimizer 'lbfgs', which shortens its step itself, but is 'skip'"
    with pytest.raises(UserError, match=message):
        dataclasses.replace(BASE, optimizer=LBFGS(), not_finite=NotFinite("skip"))

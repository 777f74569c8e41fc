"""Numbers that are not finite: where they come from, and what a run does then."""

import dataclasses
import json
import re
import socket
import sys

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import abs_, exp, sqrt
from dbp.checkpoint import checkpoints_of, digest_arrays, read, step_of
from dbp.config.settings import Data, Saving, Settings
from dbp.cost.objective import Objective, Shard
from dbp.errors import NotFiniteError, UserError
from dbp.nn import Dense
from dbp.optim import LBFGS, SGD, Adam
from dbp.parallel import Layout, OneProcess, Shards
from dbp.progress import Progress
from dbp.resuming import Start
from dbp.settings import Data, Saving, Settings
from dbp.train import train
from dbp.trouble import Trouble, places, report
from tests.jobs import PROGRAMS, dbp, launcher, mpirun, newest_checkpoint, run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 5)).astype(np.float32)
Y = np.tanh(X[:, :2])
HOST = socket.gethostname()

# --- where numbers stop being finite ------------------------------------------------------------------


def looked_at(model, inputs=X, targets=Y, change=None, loss="mean_squared_error", shards=3):
    """What is found in one mini-batch: each as (what, shard, rows), examples of shards being rows from 100 on."""
    inputs, model, loss = np.asarray(inputs, np.float32), nn.as_model(model), nn.as_loss(loss)
    initial = nn.initial_parameters(model, inputs[:2], 0, np.dtype("float32"))
    layout, comm, parts = Layout(initial.shapes), OneProcess(), Shards(shards)
    objective = Objective(model, loss, layout, comm, parts, np.dtype("float32"), initial.running)
    weights = objective.arena.vector()
    objective.arena.fill(weights, layout, initial.draw)
    if change is not None:
        change(layout.views(weights, writable=True))
    taken = [parts.of_batch(len(inputs), number) for number in range(shards)]
    objective.batch = [Shard(n, inputs[r.start : r.stop], targets[r.start : r.stop], None) for n, r in enumerate(taken)]
    running = digest_arrays(nn.named_arrays(initial.running))
    with np.errstate(all="ignore"):
        before = objective.value_and_gradient(weights)
        assert not before.finite
        gradient = before.gradient.copy()
        found = diagnose(objective, weights, lambda number: 100 + np.arange(taken[number].start, taken[number].stop))
        after = objective.value_and_gradient(weights)
    assert gradient.tobytes() == after.gradient.tobytes()
    assert digest_arrays(nn.named_arrays(initial.running)) == running
    assert all((one.rank, one.host) == (0, HOST) for one in found)
    return [(one.what, one.shard, one.rows) for one in found]


def with_row(number, value):
    changed = X.copy()
    changed[number] = value
    return changed


def squared_root(scope, x):
    """Whose derivative is infinite at 0."""
    return sqrt(abs_(x @ scope.parameter("weight", (x.shape[-1], 2))))


def grown(scope, x):
    return exp(x * scope.parameter("rate", (x.shape[-1],), "ones")) @ scope.parameter("weight", (x.shape[-1], 2))


def grown_and_more(scope, x):
    """A layer is the first of whose outputs some are not finite, but it is not to blame."""
    grown = exp(x * scope.parameter("rate", (x.shape[-1],), "ones"))
    return nn.Sequential([Dense(3), Dense(2)])(scope.inside("top"), grown)


LAYERS = [Dense(4, "relu"), Dense(3), Dense(2)]


def test_weights_come_first():
    def spoil(views):
        views["dense_2/weight"][0, :2] = np.inf
        views["dense_3/bias"][1] = np.nan

    expected = ["the weights: 2 of 12 numbers of dense_2/weight", "the weights: 1 of 2 numbers of dense_3/bias"]
    assert looked_at(LAYERS, with_row(1, np.nan), change=spoil) == [(what, None, ()) for what in expected]


def test_data_by_column_and_row():
    targets = Y.copy()
    targets[[5, 6, 11]] = np.inf
    assert looked_at(LAYERS, with_row([6], np.nan), targets) == [
        ("the inputs in the data, as float32", 1, (106,)),
        ("the targets in the data, as float32", 1, (105, 106)),
        ("the targets in the data, as float32", 2, (111,)),
    ]


def large(name, value=1e15):
    def change(views):
        views[name][:] = value

    return change


@pytest.mark.parametrize(
    ("model", "inputs", "change", "what"),
    [
        (LAYERS, with_row(9, 1e25), large("dense_2/weight"), "the outputs of layer dense_2"),
        (LAYERS, with_row(9, 1e25), large("dense_1/weight"), "the outputs of layer dense_1"),
        (LAYERS, with_row(9, 1e30), None, "the loss mean_squared_error, of finite outputs"),
        (
            [Dense(5), nn.Residual([Dense(5), Dense(5)]), Dense(2)],
            with_row(9, 1e25),
            large("residual_1/dense_2/weight"),
            "the outputs of layer residual_1/dense_2",
        ),
        (
            [Dense(5), nn.Recompute([Dense(5), Dense(5)]), Dense(2)],
            with_row(9, 1e25),
            large("recompute_1/dense_2/weight"),
            "the outputs of layer recompute_1/dense_2",
        ),
        (grown, with_row(9, 100), None, "the result of exp, after the parameter rate"),
        (grown_and_more, with_row(9, 100), None, "the result of exp, after the parameter rate"),
    ],
    ids=["second", "first", "loss", "residual", "recompute", "operation", "function"],
)
def test_the_first_place_in_the_forward_pass(model, inputs, change, what):
    assert looked_at(model, inputs, change=change) == [(what, 2, (109,))]


def test_shards_may_fail_at_different_places():
    inputs = with_row(9, 1e8)
    inputs[1] = 1e28
    assert looked_at([Dense(4), Dense(4), Dense(2)], inputs, change=large("dense_2/weight")) == [
        ("the outputs of layer dense_2", 0, (101,)),
        ("the loss mean_squared_error, of finite outputs", 2, (109,)),
    ]


def test_gradients_of_finite_losses_with_the_examples_that_have_them():
    inputs = X.copy()
    inputs[[1, 8, 10]] = 0
    what = "the gradient of second/weight, of a finite cost"

    def both(scope, x):
        return squared_root(scope.inside("second"), squared_root(scope.inside("first"), x))

    assert looked_at(both, inputs) == [(what, 0, (101,)), (what, 2, (108, 110))]


def test_a_sum_of_finite_gradients():
    """Each of 2e38, which float32 can hold once."""
    inputs = np.full((2, 1), 1e19)
    targets = np.zeros((2, 1), np.float32)
    what = "the gradient of dense_1/weight, summed over the shards, each of which is finite"
    found = looked_at([Dense(1, bias=False)], inputs, targets, large("dense_1/weight", 1.0), shards=2)
    assert found == [(what, None, ())]


def test_running_moments():
    found = looked_at([nn.Dropout(0.5), nn.BatchNorm(), Dense(2)], with_row(9, 1e30))
    assert found == [("the mean or variance of the inputs of layer batch_norm_1", 2, ())]


# --- the report ---------------------------------------------------------------------------------------


def words(text):
    return " ".join(text.split())


def failing(**changes):
    settings = dataclasses.replace(BASE, **changes)
    with pytest.raises(NotFiniteError) as caught:
        train(settings, OneProcess(), Start(quiet=True))
    assert caught.value.exit_code == 70
    assert all(len(line) <= 80 for line in f"dbp: error: {caught.value}".splitlines() if "/" not in line)
    return str(caught.value)


BASE = Settings(
    model=[Dense(8, "relu"), Dense(2)],
    loss="mean_squared_error",
    data=Data((X, Y)),
    optimizer=SGD(0.1),
    epochs=3,
    batch_size=4,
    shards=2,
)


def test_the_report_tells_step_rank_layer_and_examples():
    assert failing(data=Data((with_row(2, 3e38), Y)), model=[Dense(8), Dense(2)]) == (
        "the cost is not finite at step 2 (epoch 1, cost nan): training stops\n"
        "  first not finite: the outputs of layer dense_1\n"
        f"    rank 0 on {HOST}; shard 1; 1 of 2 examples: row 2 of the train arrays\n"
        "  try a smaller learning_rate, clip_norm, when_not_finite = 'skip' or 'go_back'"
    )


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
def test_rows_are_those_of_the_data_set(whole):
    inputs = np.repeat(X.astype(np.float64), 3, axis=0)
    inputs[[4, 20]] = 1e39
    data = Data((inputs, np.repeat(Y, 3, axis=0)), validation=None if whole else 0.2)
    told = failing(data=data, batch_size=1, shards=1, seed=4)
    assert "first not finite: the inputs in the data, as float32\n" in told
    assert re.search(r"; shard 0; 1 of 1 examples: row (4|20) of the train arrays\n  mend these", told)


def test_of_a_method_that_tries_other_weights():
    told = failing(optimizer=LBFGS(), data=Data((with_row(3, 1e30), Y)), batch_size=12)
    assert told.startswith("the cost is not finite at step 1 (epoch 1, cost inf): training stops\n")
    assert "first not finite: the loss mean_squared_error, of finite outputs\n" in told
    assert "1 of 6 examples: row 3 of the train arrays\n" in told


def test_nothing_found_is_said():
    assert places([], "data") == ["at these weights cost and gradient are finite, but not where the next step leads"]


def test_reports_fit_a_terminal():
    text = report("a " * 60, ["b " * 60, "  " + "c " * 60, "x" * 100], room=12)
    lines = text.splitlines()
    assert len(lines[0]) <= 68
    assert all(len(line) <= 80 for line in lines if "x" not in line)
    assert [line[: len(line) - len(line.lstrip())] for line in lines] == [
        "",
        "  ",
        "  ",
        "    ",
        "    ",
        "      ",
        "  ",
    ]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("case", "what", "row", "shard"),
    [
        ("data", "the inputs in the data, as float32", 7, 2),
        ("layer", "the outputs of layer dense_2", 7, 2),
        ("lbfgs", "the loss mean_squared_error, of finite outputs", 7, 0),
    ],
)
def test_one_report_of_all_ranks(ranks, case, what, row, shard):
    outcome = mpirun(ranks, PROGRAMS / "trouble.py", case, "{}", "-")
    assert outcome.code == 70, outcome.text
    assert outcome.err.count("dbp: error: ") == 1
    rank = next(rank for rank in range(ranks) if shard in Shards(6, rank, ranks).mine)
    assert f"  first not finite: {what}\n    rank {rank} on {HOST}; shard {shard}; 1 of" in outcome.err
    assert f"examples: row {row} of the train arrays\n" in outcome.err


# --- skipping -----------------------------------------------------------------------------------------

BAD = Data((np.full((12, 5), 1e30), Y))


def test_only_so_many_steps_in_a_row_are_skipped():
    told = failing(data=BAD, optimizer=SGD(0.1, when_not_finite="skip", skip_at_most=4))
    assert "at step 5 (epoch 2, cost inf): training stops, as skip_at_most = 4 steps in a row were skipped" in words(
        told
    )
    assert told.endswith("  try a smaller learning_rate or clip_norm")


def test_a_step_that_is_done_begins_the_row_anew():
    """Each epoch has one that cannot be done, of three."""
    optimizer = SGD(0.01, when_not_finite="skip", skip_at_most=1)
    settings = dataclasses.replace(BASE, data=Data((with_row(7, 1e30), Y)), optimizer=optimizer, seed=2)
    result = train(settings, OneProcess(), Start(quiet=True))
    assert result.history["skipped"] == [1, 1, 1]


def test_the_row_goes_on_after_resuming(tmp_path):
    optimizer = SGD(0.1, when_not_finite="skip", skip_at_most=4)
    settings = dataclasses.replace(BASE, data=BAD, optimizer=optimizer, epochs=1, out=str(tmp_path))
    train(settings, OneProcess(), Start(quiet=True))
    with pytest.raises(NotFiniteError, match=r"at step 5 "):
        train(dataclasses.replace(settings, epochs=3), OneProcess(), Start(quiet=True))


# --- going back ---------------------------------------------------------------------------------------

OPTIONS = {"sgd": {"go_back_factor": 0.25}, "adam": {"go_back_factor": 1e-4}}
OPTIONS = {case: json.dumps({"when_not_finite": "go_back", **more}) for case, more in OPTIONS.items()}


@pytest.fixture(scope="module", params=["sgd", "adam"])
def unbroken(request, tmp_path_factory):
    """A case, and what one rank tells of it without being interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    outcome = mpirun(1, PROGRAMS / "trouble.py", request.param, OPTIONS[request.param], folder)
    assert outcome.code == 0, outcome.text
    assert "learning rate times" in outcome.out
    return request.param, backs(outcome), folder


def backs(outcome):
    """Where a run went back, and to what it came."""
    steps = re.findall(r"not finite at step \d+ .*?: back to step \d+, learning rate times \S+", words(outcome.out))
    return steps, result_of(outcome)


def result_of(outcome):
    return re.findall("^digest .*$", outcome.out, re.MULTILINE)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_same_way_on_any_number_of_ranks(unbroken, tmp_path, ranks):
    case, expected, folder = unbroken
    outcome = mpirun(ranks, PROGRAMS / "trouble.py", case, OPTIONS[case], tmp_path)
    assert outcome.code == 0, outcome.text
    assert backs(outcome) == expected
    mine, theirs = (newest_checkpoint(f) for f in (tmp_path, folder))
    for name in ("rate_factor", "gone_back", "trouble_step", "way_back", "way_back_before", "step", "best_step"):
        assert mine.progress[name] == theirs.progress[name]
    kept = [sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (tmp_path, folder)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(("how", "code"), [("KILL", None), ("USR1", 75)])
@pytest.mark.parametrize("starts", [((2, 2), (1, 5), (3, 4)), ((3, 3), (2, 1), (1, 7))], ids=["even", "odd"])
def test_the_same_bits_however_interrupted(unbroken, tmp_path, how, code, starts):
    """One stop after another, each on so many ranks after so many steps, before and after the run goes back."""
    case, (_, expected), _ = unbroken
    for ranks, count in starts:
        outcome = mpirun(ranks, PROGRAMS / "trouble.py", case, OPTIONS[case], tmp_path, f"step:{count}:{how}")
        assert outcome.code == code if code else outcome.code != 0, outcome.text
        assert not result_of(outcome)
    outcome = mpirun(2, PROGRAMS / "trouble.py", case, OPTIONS[case], tmp_path)
    assert outcome.code == 0, outcome.text
    assert result_of(outcome) == expected


@pytest.mark.parametrize("stage", ["step:6", "restore:1", "back:1"])
def test_ranks_that_outlive_another_go_the_same_way(unbroken, tmp_path, stage):
    """One dies after a step, while the state is brought back, or as soon as it is."""
    case, (_, expected), _ = unbroken
    words = (PROGRAMS / "trouble.py", case, OPTIONS[case], tmp_path, f"{stage}:KILL")
    outcome = run(launcher(), "--with-ft", "ulfm", "-n", 3, sys.executable, *words, timeout=90)
    assert outcome.code == 0, outcome.text
    assert "rank 2 died, 2 of 3 live: they go on from" in outcome.err
    assert result_of(outcome) == expected


BACK = dataclasses.replace(
    BASE,
    optimizer=SGD(100, when_not_finite="go_back", go_back_factor=1e-3),
    checkpoint=Saving(every_steps=2, keep=1, best="cost"),
    epochs=6,
    out="a folder of each test's own",
)


def back(folder, settings=BACK, **changes):
    return train(dataclasses.replace(settings, out=str(folder), **changes), OneProcess(), Start())


def test_what_lies_after_the_step_gone_back_to_is_gone(tmp_path, monkeypatch):
    """Of checkpoints, of the history, and of the link to the best one."""
    seen = []
    restored = Trouble._tidy

    def tidied(self, damaged):
        restored(self, damaged)
        files, step = checkpoints_of(tmp_path).files(), self._run.progress.step
        assert step_of(files[-1]) == step
        rows = (tmp_path / "history.csv").read_text().splitlines()[1:]
        assert len(rows) == self._run.progress.epoch == step // 3
        best, link = self._run.progress.best_step, tmp_path / "checkpoints" / "best.h5"
        assert link.is_symlink() == bool(best)
        assert not best or read(link).progress["step"] == best
        seen.append(step)

    monkeypatch.setattr(Trouble, "_tidy", tidied)
    result = back(tmp_path)
    assert len(seen) > 1
    assert max(seen) > 0
    assert result.steps == 18
    assert newest_checkpoint(tmp_path).progress["rate_factor"] == pytest.approx(1e-3 ** len(seen))
    assert result.history["learning_rate"][-1] == pytest.approx(100 * 1e-3 ** len(seen))


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch, capsys):
    """Without the one that it would go back to, a run goes back to the one before."""
    whole, damaged = Trouble._restore, []

    def restore(self):
        path = checkpoints_of(tmp_path).path_of(self._run.progress.way_back_from_here())
        if not damaged and step_of(path) > 0:
            damaged.append(path)
            path.write_bytes(path.read_bytes()[:-200])
        return whole(self)

    monkeypatch.setattr(Trouble, "_restore", restore)
    back(tmp_path)
    before, _, after = words(capsys.readouterr().out).partition(f"warning: checkpoint {damaged[0]} is damaged")
    assert "back to step" not in before
    assert re.search(r"back to step (\d+),", after)[1] == "0"
    assert damaged[0].with_name(damaged[0].name + ".damaged").exists()


def test_it_goes_back_only_so_often(tmp_path, capsys):
    """Where a smaller step does not help; then the run can go on otherwise."""
    data = Data((with_row(2, 1e30), Y))
    settings = dataclasses.replace(BACK, data=data, optimizer=SGD(0.01, when_not_finite="go_back", go_back_at_most=2))
    with pytest.raises(NotFiniteError) as caught:
        back(tmp_path, settings)
    assert "training stops, as the run has gone back go_back_at_most = 2 times" in words(str(caught.value))
    out = capsys.readouterr().out
    assert out.count("warning: the cost is not finite") == 2
    assert out.count("first not finite: the loss mean_squared_error, of finite outputs") == 1
    skipping = SGD(0.01, when_not_finite="skip")
    assert back(tmp_path, settings, optimizer=skipping).history["skipped"] == [1] * 6
    assert "optimizer.when_not_finite: 'go_back' in the checkpoint, 'skip' now" in capsys.readouterr().out


def test_the_ways_back():
    """The last checkpoint, then in turn with the one before it; never one of the very step."""
    progress = Progress(())
    assert progress.way_back_from_here() is None
    progress.step = 1
    assert progress.way_back_from_here() == 0
    for step in (4, 8):
        progress.step = step
        progress.mark()
        progress.mark()
    assert (progress.way_back, progress.way_back_before, progress.way_back_from_here()) == (8, 4, 4)
    progress.step = 9
    for expected in (8, 4, 8, 4):
        assert progress.way_back_from_here() == expected
        progress.gone_back += 1
    assert progress.ways_back(best=False) == {8, 4}
    progress.history = {"step": [3.0, 4.0, 8.0], "cost": [1.0, 2.0, 0.5]}
    assert progress.ways_back(best=True) == {8, 4, 3}


def test_coming_past_the_step_counts_anew():
    progress = Progress(())
    progress.step, progress.gone_back, progress.trouble_step = 4, 3, 6
    for expected in (3, 3, 0):
        progress.after_step(progress.totals)
        assert progress.gone_back == expected


def test_there_must_be_a_step_before(tmp_path):
    with pytest.raises(NotFiniteError, match=r"as\s+there is no whole checkpoint from before it to go back to"):
        back(tmp_path, data=BAD)


def test_going_back_mends_no_data(tmp_path):
    inputs = X.astype(np.float64)
    inputs[7] = 1e39
    with pytest.raises(NotFiniteError, match=r"training\s+stops, as going back"):
        back(tmp_path, data=Data((inputs, Y)), optimizer=Adam(when_not_finite="go_back"))


def test_a_run_that_has_stopped_can_go_on_going_back(small):
    """From the command line, with the same command and more."""
    blown = ("--set", "optimizer={ kind = 'sgd', learning_rate = 1e38 }", "--set", "schedule={ kind = 'constant' }")
    stopped = dbp("train", small, *blown)
    assert stopped.code == 70, stopped.text
    assert "dbp: error: the cost is not finite at step 3 (epoch 1, cost inf): training stops\n" in stopped.err
    way = ("--set", "optimizer.when_not_finite='go_back'", "--set", "optimizer.go_back_factor=1e-38")
    again = dbp("train", small, *blown, *way)
    assert again.code == 0, again.text
    assert "back to step 0, learning rate times 1e-38" in " ".join(again.out.split())


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"when_not_finite": "goback"}, "unknown when_not_finite 'goback'; did you mean 'go_back'"),
        ({"skip_at_most": 0}, "skip_at_most must be at least 1, but is 0"),
        ({"go_back_at_most": 0}, "go_back_at_most must be at least 1, but is 0"),
        ({"go_back_factor": 1.0}, "go_back_factor must be between 0 and 1, but is 1.0"),
        ({"go_back_factor": 0.0}, "go_back_factor must be between 0 and 1, but is 0.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        SGD(0.1, **options)


def test_going_back_needs_a_folder():
    message = "when_not_finite = 'go_back' needs checkpoints to go back to, but out is None; set it to a folder"
    with pytest.raises(UserError, match=message):
        dataclasses.replace(BASE, optimizer=SGD(0.1, when_not_finite="go_back"))

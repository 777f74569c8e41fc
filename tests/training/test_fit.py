"""Training in one process: what a run learns, returns and refuses before its first step."""

import dataclasses
import inspect
import os
import shutil
import signal

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping
from dbp.data import ArrayDataset
from dbp.errors import Interrupted, NotFiniteError, Stopped, UserError
from dbp.optim import LBFGS, SGD, Constant, Cosine
from dbp.parallel import OneProcess, RankLostError
from dbp.parallel.ranks.comm import NoSurvival
from dbp.saving.start import Start
from dbp.training import fit
from dbp.training.fit import train
from tests.jobs import mpirun, newest_checkpoint
from tests.small_data import X, Y
from tests.training.fit_runs import BASE, run


def test_a_run_learns():
    result = run(epochs=150)
    assert result.test["accuracy"] >= 0.85
    assert result.history["cost"][-1] < 0.3 < result.history["cost"][0]
    assert result.steps == 150 * 4


def test_the_history_has_a_row_an_epoch():
    history = run().history
    assert history["epoch"] == [1, 2, 3, 4]
    assert history["step"] == [4, 8, 12, 16]
    assert {
        "cost",
        "accuracy",
        "validation_cost",
        "validation_accuracy",
        "learning_rate",
        "seconds",
        "evaluations",
    } <= set(history)


@pytest.mark.parametrize("placeholder", [(0.0, -100), (np.nan, 255), (1e30, 2), (np.inf, -1)])
def test_what_stands_at_weight_0_changes_no_bit(placeholder):
    weights = np.ones(60)
    weights[::7] = 0
    x, y = X.copy(), Y.copy()
    expected = run(data=Data((x, y, weights), validation=(x, y, weights)))
    x[::7], y[::7] = placeholder
    found = run(data=Data((x, y, weights), validation=(x, y, weights)))
    assert digest_arrays(found.weights) == digest_arrays(expected.weights)
    columns = found.history.keys() - {"seconds"}
    assert {name: found.history[name] for name in columns} == {name: expected.history[name] for name in columns}


@pytest.mark.parametrize("data", [{"train": (X, Y, 0.0 * Y)}, {"train": (X, Y), "validation": (X, Y, 0.0 * Y)}])
def test_data_of_which_nothing_counts_is_refused(data):
    with pytest.raises(UserError, match="arrays: the weights of all examples are 0, so that none of them counts"):
        run(data=Data(**data))


def test_weights_are_by_name_and_can_be_changed_in_place():
    weights = run().weights
    assert list(weights) == ["dense_1/weight", "dense_1/bias", "dense_2/weight", "dense_2/bias"]
    weights["dense_1/bias"][0] = 1
    assert weights["dense_1/bias"][0] == 1


def test_a_run_may_begin_with_the_weights_of_another(tmp_path):
    first = run(out=str(tmp_path / "first"))
    for weights in (
        first.weights,
        str(tmp_path / "first"),
        str(tmp_path / "first" / "checkpoints" / "step-000000016.h5"),
    ):
        untrained = run(weights=weights, epochs=0)
        assert digest_arrays(untrained.weights) == digest_arrays(first.weights)
    second = tmp_path / "second"
    whole = run(weights=first.weights, optimizer=LBFGS(), schedule=Constant(), out=str(second))
    assert whole.history["cost"][-1] < first.history["cost"][-1]
    again = run(weights=first.weights, optimizer=LBFGS(), schedule=Constant(), out=str(second))
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    with pytest.raises(UserError, match=r"weights.custom: 'weights .*' in the checkpoint, 'weights .*' now"):
        run(weights=whole.weights, optimizer=LBFGS(), schedule=Constant(), out=str(second))
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(UserError, match=r"checkpoint .*first does not exist"):
        run(weights=str(tmp_path / "first"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("dense_1/bias"), r"weights: 'dense_1/bias' is missing, which the model needs; take all of"),
        (
            lambda w: w.update(dense_1x=w["dense_1/bias"]),
            r"weights: the model has no 'dense_1x'; did you mean",
        ),
        (
            lambda w: w.update({"dense_1/bias": np.zeros(4)}),
            r"weights: 'dense_1/bias' has shape \(4,\), but the model needs \(8,\); take those that fit",
        ),
    ],
)
def test_weights_of_another_model_are_refused(change, message):
    weights = dict(run(epochs=0).weights)
    change(weights)
    with pytest.raises(UserError, match=message):
        run(weights=weights)


def test_the_same_settings_give_the_same_bits_and_another_seed_others():
    base = digest_arrays(run().weights)
    assert base == digest_arrays(run().weights)
    assert base != digest_arrays(run(seed=1).weights)


def test_weights_may_be_float64():
    assert all(w.dtype == np.float64 for w in run(dtype="float64").weights.values())


def test_example_weights_count():
    """An example of weight 2 counts as two examples: a full batch of each gives the same step."""
    w = np.where(np.arange(60) % 2, 2.0, 1.0)
    twice = np.repeat(np.arange(60), w.astype(int))
    common = {"epochs": 1, "shards": 1, "dtype": "float64", "optimizer": SGD(0.1), "schedule": Cosine()}
    weighted = run(data=Data((X, Y, w)), batch_size=60, **common)
    repeated = run(data=Data((X[twice], Y[twice])), batch_size=len(twice), **common)
    for name, value in weighted.weights.items():
        np.testing.assert_allclose(value, repeated.weights[name], rtol=1e-12)
    assert weighted.history["cost"] == pytest.approx(repeated.history["cost"])


def test_divergence_stops_and_keeps_the_last_weights(tmp_path):
    data = Data((X * 1e3, X[:, :1] * 1e3))
    settings = dataclasses.replace(BASE, model=[nn.Dense(1)], loss=nn.MeanSquaredError(), data=data)
    with pytest.raises(NotFiniteError, match=r"(?s)not finite at step \d+ .*smaller learning_rate"):
        run(settings, optimizer=SGD(1e3), out=str(tmp_path), epochs=40, checkpoint=Checkpoint(every_steps=1))
    checkpoint = newest_checkpoint(tmp_path)
    assert all(np.isfinite(array).all() for array in checkpoint.model.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 49}, "batch_size is 49, but must not be larger than the training data, which has 48"),
        ({"data": Data((X, Y + 1))}, r"the train arrays: targets of cross_entropy must lie from 0 to 2"),
        ({"data": Data((X, Y), test=(X[:, :4], Y))}, r"test inputs have shape \(4,\).*have \(5,\)"),
        ({"data": Data((X, Y), validation=0.001)}, "leaves no example"),
        ({"data": Data((np.where(X > 2, np.nan, X), Y))}, "inputs must be finite.*contain nan"),
        (
            {"data": Data((X, Y), (X.astype(int), Y))},
            "validation arrays: inputs are integers .*training data are floats",
        ),
        ({"data": Data((X, Y), test=(X, np.full(60, 9)))}, "the test arrays: targets of cross_entropy"),
        ({"model": [nn.Dense(3), nn.Flatten(), nn.Dense(2)]}, "from 0 to 1, as the model has 2 outputs"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(out=str(tmp_path / "run"), **change)
    assert not (tmp_path / "run").exists()


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(epochs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_stopped_frees_its_shared_memory(tmp_path):
    """Else the shared memory would fill up in a script of many runs."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, os, dbp\n"
        "x = np.random.default_rng(0).standard_normal((40, 100))\n"
        "def fit(rate):\n"
        "    model = [dbp.nn.Dense(100), dbp.nn.Dense(2)]\n"
        "    return dbp.fit(model=model, loss='mean_squared_error', data=(x, x[:, :2]),\n"
        "                   optimizer=dbp.optim.SGD(rate), epochs=3, batch_size=8, quiet=True)\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        fit(1e30)\n"
        "    except dbp.UserError as error:\n"
        "        assert 'not finite' in str(error)\n"
        "    weights = fit(1e-4).weights\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    assert 'dbp-' not in maps and all(np.isfinite(w).all() for w in weights.values())\n"
        "print('done', flush=True)\n"
    )
    outcome = mpirun(2, script)
    assert (outcome.code, outcome.out) == (0, "done\ndone\n"), outcome.text


@pytest.mark.parametrize(("batch_size", "warned"), [(3, True), (4, False)])
def test_mini_batches_that_leave_shards_empty_are_warned_of(capsys, batch_size, warned):
    train(dataclasses.replace(BASE, epochs=1, batch_size=batch_size, shards=4), OneProcess())
    text = "warning: a mini-batch of 3 examples leaves 1 of 4 shards empty; start over with a larger batch_size or"
    assert (text in capsys.readouterr().out) == warned


def test_a_validation_cost_that_is_not_finite_is_said_once_and_counts_for_nothing(tmp_path, capsys):
    inputs = X.copy()
    inputs[7] = 1e30
    other = ArrayDataset(inputs, X[:, :1], name="valid.h5")
    changes = {
        "model": [nn.Dense(1)],
        "loss": "mean_squared_error",
        "data": Data((X, X[:, :1]), validation=other, test=other),
        "early_stopping": EarlyStopping(patience=1),
        "out": str(tmp_path),
    }
    for epochs in (3, 4):  # once, also where the run resumes
        train(dataclasses.replace(BASE, epochs=epochs, **changes), OneProcess(), Start(accept=("epochs",)))
    out = capsys.readouterr().out
    assert out.count("warning: the validation cost of epoch 1 is inf: example 7 of valid.h5: its loss is not") == 1
    assert out.count("warning: the validation cost") == 1
    assert out.count("warning: the test cost is inf: example 7 of valid.h5") == 2
    assert "finished: 4 epochs" in out
    assert not (tmp_path / "checkpoints" / "best.h5").exists()


def test_fit_shows_its_settings_and_says_that_it_takes_them_by_name():
    shown = inspect.signature(dbp.fit).parameters
    assert shown["epochs"].default is inspect.Parameter.empty
    assert (shown["seed"].default, shown["watch"].default, shown["fresh"].default) == (0, dbp.Watch(), False)
    assert {parameter.kind for parameter in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(UserError, match="takes its arguments by name, but got a list without one; write "):
        dbp.fit([], (X, Y))
    assert set(dir(dbp)) == set(dbp.__all__)
    for module in (dbp, dbp.data, dbp.checkpoint):
        assert all(hasattr(module, name) for name in dir(module))


def test_a_full_batch_by_name_is_one_of_all_training_examples():
    assert run(batch_size="all").steps == 4
    number = round(0.8 * len(X))
    assert digest_arrays(run(batch_size="all").weights) == digest_arrays(run(batch_size=number).weights)


@pytest.mark.parametrize(("number", "out", "code"), [(signal.SIGINT, False, 130), (signal.SIGTERM, True, 75)])
def test_a_signal_in_the_last_step_is_not_forgotten(tmp_path, number, out, code):
    def model(scope, x):
        if scope.training and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return nn.Dense(3)(scope.inside("dense"), x)

    sent = []
    settings = {"loss": "cross_entropy", "data": (X, Y), "optimizer": "adam", "epochs": 1, "batch_size": "all"}
    with pytest.raises((Interrupted, Stopped)) as ended:
        dbp.fit(model=model, **settings, shards=1, quiet=True, out=tmp_path / "run" if out else None)
    assert getattr(ended.value, "exit_code", ended.value.args[0]) == code
    if number == signal.SIGINT:
        assert ended.value.result.steps == 1
        assert len(ended.value.result.history["cost"]) == 1
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    assert dbp.fit(model=model, **settings, shards=1, quiet=True).steps == 1


def test_a_rank_that_dies_as_signals_of_the_last_step_are_asked_for_is_recovered_from(monkeypatch):
    """Ask before the ranks confirm that all have finished, after which none continues without the others."""

    def asked_ending(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise RankLostError
        return original(*arguments)

    asked, original, recovered, confirmed = [], fit.asked_ending, [], []
    monkeypatch.setattr(fit, "asked_ending", asked_ending)
    monkeypatch.setattr(fit, "recover", lambda *words: recovered.append(words) or (OneProcess(), None))
    monkeypatch.setattr(NoSurvival, "enabled", True)
    monkeypatch.setattr(NoSurvival, "confirm", lambda _self: confirmed.append(len(asked)))
    settings = {"loss": "cross_entropy", "data": (X, Y), "optimizer": "adam", "epochs": 1, "batch_size": "all"}
    assert dbp.fit(model=[nn.Dense(3)], **settings, shards=1, quiet=True).steps == 1
    assert (len(asked), len(recovered), confirmed[-1]) == (2, 1, 2)

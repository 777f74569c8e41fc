"""Training in one process: learning, resuming to the same bits, refusing what does not fit."""

import dataclasses
import shutil
import tomllib

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import checkpoints_of, digest_arrays
from dbp.config.settings import Checkpoint, Data, Settings
from dbp.errors import NotFiniteError, UserError
from dbp.optim import LBFGS, SGD, Adam, Constant, Cosine
from dbp.parallel import Arena, Node, OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.jobs import newest_checkpoint
from tests.small_data import X, Y

BASE = Settings(
    model=[nn.Dense(8, "tanh"), nn.Dense(3)],
    loss="cross_entropy",
    data=Data((X, Y), validation=0.2, test=(X[:20], Y[:20])),
    optimizer=Adam(1e-2),
    epochs=4,
    batch_size=14,
    schedule=Cosine(warmup_steps=3),
    shards=3,
    checkpoint=Checkpoint(every_steps=3, keep=100),
)


def run(settings=BASE, **changes):
    options = {name: changes.pop(name) for name in ("fresh", "overwrite", "accept", "retry") if name in changes}
    return train(dataclasses.replace(settings, **changes), OneProcess(), Start(quiet=True, **options))


def test_it_learns():
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


@pytest.mark.parametrize("data", [{"train": (X, Y, 0.0 * Y)}, {"train": (X, Y), "validation": (X, Y, 0.0 * Y)}])
def test_data_of_which_nothing_counts_is_refused(data):
    with pytest.raises(UserError, match="arrays: the weights of all examples are 0, so that none of them counts"):
        run(data=Data(**data))


def test_weights_are_read_only_and_by_name():
    weights = run().weights
    assert list(weights) == ["dense_1/weight", "dense_1/bias", "dense_2/weight", "dense_2/bias"]
    with pytest.raises(ValueError, match="read-only"):
        weights["dense_1/bias"][0] = 1


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


def test_no_weights_are_drawn_where_a_run_goes_on(tmp_path, monkeypatch):
    whole = run(epochs=2)
    run(epochs=1, out=str(tmp_path))
    monkeypatch.setattr(Arena, "fill", None)
    again = run(epochs=2, out=str(tmp_path))
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    with pytest.raises(TypeError):
        run(epochs=1)


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
            r"weights: 'dense_1/bias' has shape \(4,\), but the model needs \(8,\)",
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


def test_float64():
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
    again = run(out=str(tmp_path))
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
    resumed = run(out=str(tmp_path), shards=None)
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
    run(out=str(tmp_path), threads="auto")
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed: 0 in the checkpoint, 1 now"),
        ({"batch_size": 15}, r"batch_size: 14 in the checkpoint, 15 now"),
        ({"shards": 4}, r"shards: 3 in the checkpoint, 4 now"),
        ({"threads": 2}, r"threads: 1 in the checkpoint, 2 now"),
        ({"optimizer": SGD(0.1)}, r"optimizer.kind: 'adam' in the checkpoint, 'sgd' now"),
        ({"model": [nn.Dense(9, "tanh"), nn.Dense(3)]}, r"model.layers.0.units: 8 in the checkpoint, 9 now"),
        ({"data": Data((X + 1, Y), validation=0.2)}, r"train data: other examples"),
        ({"data": Data((X, Y), validation=0.3)}, r"data.validation: 0.2 in the checkpoint, 0.3 now"),
        ({"data": Data((X, Y), validation=(X, Y))}, r"data.validation: 0.2 .* 'not set' now; validation data: other"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, change, message):
    run(out=str(tmp_path), epochs=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    with pytest.raises(UserError, match=message + r".*--fresh"):
        run(out=str(tmp_path), **change)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before


def test_a_model_of_ones_own_is_told_apart_by_its_parameters(tmp_path):
    def narrow(scope, x):
        return x @ scope.parameter("w", (5, 3))

    def wide(scope, x):
        return x @ scope.parameter("w", (5, 4)) @ scope.parameter("v", (4, 3))

    run(out=str(tmp_path), model=narrow)
    wide.__qualname__ = narrow.__qualname__
    with pytest.raises(UserError, match=r"model/w is <f4 \(5, 3\) in the checkpoint, but this run has <f4 \(5, 4\)"):
        run(out=str(tmp_path), model=wide)


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
    with pytest.raises(UserError, match=r"none of them is whole; start anew with --fresh \(checkpoint .* is damaged"):
        run(out=str(tmp_path))


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
        ({"data": Data((X, Y), test=(X, np.full(60, 9)))}, "the test arrays: targets of cross_entropy"),
        ({"model": [nn.Dense(3), nn.Flatten(), nn.Dense(2)]}, "from 0 to 1, as the model has 2 outputs"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(out=str(tmp_path / "run"), **change)
    assert not (tmp_path / "run").exists()


def test_settings_in_short_form():
    settings = Settings([nn.Dense(3)], "cross_entropy", (X, Y), SGD(0.1), epochs=1, batch_size=5)
    assert isinstance(settings.model, nn.Sequential)
    assert settings.loss == nn.CrossEntropy()
    with pytest.raises(UserError, match=r"the train arrays must be \(inputs, targets\)"):
        Data((X,))


def test_settings_by_name():
    with pytest.raises(UserError, match="unknown setting 'batchsize'; did you mean 'batch_size'"):
        Settings.of(batchsize=3)
    with pytest.raises(UserError, match="loss is missing; a run needs it"):
        Settings.of(model=[nn.Dense(3)])


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(epochs=1)
    assert list(tmp_path.iterdir()) == []

"""Frozen parameters: constant in every step, and unknown to the optimizer."""

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays, find
from dbp.config.settings import Checkpoint, EarlyStopping
from dbp.errors import NotFiniteError, UserError
from dbp.optim import KFAC, LBFGS, SGD, Adam, LevenbergMarquardt, Newton
from dbp.run.frozen import split_shapes
from dbp.saving.start import Start
from tests.jobs import SMALL, dbp, digest, mpirun, newest_checkpoint
from tests.saving.short_runs import run

MODEL = [nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dense(4, "relu"), nn.Dense(3)]
FROZEN = ("dense_1/*", "batch_norm_1/*", "dense_2/bias")
NAMES = {"dense_1/weight", "dense_1/bias", "batch_norm_1/scale", "batch_norm_1/shift", "dense_2/bias"}
MOMENTS = {"batch_norm_1/running_mean", "batch_norm_1/running_variance"}


def changed(found, before):
    return {name for name, array in found.items() if not np.array_equal(array, before[name])}


@pytest.mark.parametrize(
    "optimizer", [Adam(1e-2, average=0.5), LBFGS(), Newton(), LevenbergMarquardt(), KFAC()], ids=lambda one: one.kind
)
def test_all_optimizers_move_the_trained_parameters_alone(optimizer, tmp_path):
    settings = {"model": MODEL, "optimizer": optimizer, "frozen": FROZEN, "shards": 3, "checkpoint": Checkpoint()}
    before = run(epochs=0, **settings).weights
    found = run(tmp_path, epochs=2, early_stopping=EarlyStopping(restore_best=True), **settings)
    assert changed(found.weights, before) == set(before) - NAMES - MOMENTS
    stored = newest_checkpoint(tmp_path)
    assert set(stored.model) == set(before)
    assert all(NAMES.isdisjoint(parameters) for parameters in stored.optimizer.values())
    with find(tmp_path) as best:
        assert digest_arrays(best.inference_weights()) == digest_arrays(found.weights)


def test_a_partly_frozen_batch_norm_keeps_learning_its_moments():
    before = run(model=MODEL, epochs=0).weights
    after = run(model=MODEL, epochs=1, frozen=["batch_norm_1/scale"]).weights
    assert changed(after, before) == set(before) - {"batch_norm_1/scale"}


def test_a_run_resumes_to_the_bits_of_an_unbroken_one(tmp_path):
    settings = {"model": MODEL, "frozen": FROZEN, "checkpoint": Checkpoint()}
    straight = run(epochs=3, **settings).weights
    run(tmp_path, epochs=1, **settings)
    assert digest_arrays(run(tmp_path, epochs=3, **settings).weights) == digest_arrays(straight)


def test_a_run_resumes_with_other_frozen_parameters_only_where_that_is_accepted_and_arrays_fit(tmp_path):
    settings = {"model": MODEL, "frozen": FROZEN, "optimizer": SGD(0.1), "checkpoint": Checkpoint()}
    first = run(tmp_path, epochs=1, **settings).weights
    settings |= {"frozen": ["dense_1/*"], "epochs": 2}
    with pytest.raises(UserError, match=r"\(frozen: '.*' in the checkpoint, 'dense_1/\*' now\).* weights=FOLDER"):
        run(tmp_path, **settings)
    after = run(tmp_path, start=Start(accept=("frozen",)), **settings).weights
    assert changed(after, first) == set(first) - {"dense_1/weight", "dense_1/bias"}
    settings |= {"optimizer": Adam(), "frozen": FROZEN}
    run(tmp_path / "adam", **settings)
    with pytest.raises(UserError, match=r"is of another run \(it lacks optimizer/\w+/batch_norm_1/scale"):
        run(tmp_path / "adam", start=Start(accept=("frozen",)), **settings | {"frozen": ["dense_1/*"]})


def test_a_later_phase_trains_more_of_the_weights_of_the_first(tmp_path):
    first = run(tmp_path, model=MODEL, frozen=FROZEN, epochs=1).weights
    second = run(model=MODEL, weights=str(tmp_path), frozen=["dense_1/bias"], epochs=1).weights
    assert changed(second, first) == set(first) - {"dense_1/bias"}


def test_what_layers_never_train_is_frozen_without_being_asked():
    model = [nn.FourierFeatures(4), nn.Dense(3)]
    before = run(model=model, epochs=0).weights
    for frozen in ((), ("dense_1/bias",)):
        after = run(model=model, epochs=1, frozen=frozen).weights
        assert changed(after, before) == {"dense_1/weight", "dense_1/bias"} - set(frozen)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["conv2d_*"], r"^frozen: the pattern 'conv2d_\*' matches no parameter; the nearest is "),
        (["*"], r"^frozen must leave parameters to train, but \* matches all 2 of the model"),
        (["a", "b"], r"^frozen must leave parameters to train, but a, b match all 2 of the model"),
    ],
)
def test_patterns_of_nothing_or_of_all_are_refused(patterns, message):
    with pytest.raises(UserError, match=message):
        split_shapes(patterns, nn.InitialParameters({"a": (1,), "b": (2,)}, {}, {}, 0, np.dtype("float32")))


def test_outputs_that_depend_on_frozen_parameters_alone_are_refused():
    def model(scope, x):
        scope.parameter("unused", (2,))
        return x @ scope.parameter("weight", (5, 3))

    with pytest.raises(UserError, match="the outputs depend on frozen parameters alone"):
        run(model=model, frozen=["weight"])


@pytest.mark.slow
def test_weights_do_not_depend_on_the_ranks(tmp_path):
    """Compare weights on one rank with those on three, of two nodes that divide the optimizer's state."""
    (tmp_path / "c.toml").write_text('frozen = ["dense_1/*"]\n' + SMALL)
    train = ("train", tmp_path / "c.toml", "--out")
    outcomes = [
        dbp(*train, tmp_path / "one"),
        mpirun(3, "-m", "dbp", *train, tmp_path / "three", "--set", "divide_state=true", env={"DBP_NODE_SIZES": "1,2"}),
    ]
    for outcome in outcomes:
        assert outcome.code == 0, outcome.text
        assert "170 of 1,210 parameters, the others frozen (float32)" in outcome.out
    assert digest(tmp_path / "one") == digest(tmp_path / "three")


def test_frozen_numbers_that_are_none_are_named_in_the_report():
    weights = run(epochs=0).weights
    spoiled = weights | {"dense_1/bias": np.where(np.arange(8) == 2, np.nan, weights["dense_1/bias"])}
    with pytest.raises(NotFiniteError, match=r"the weights: 1 of 8 numbers of dense_1/bias"):
        run(weights=spoiled, frozen=["dense_1/*"])

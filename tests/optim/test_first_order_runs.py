"""Options of optimizers in whole runs: the same bits on any ranks and after resuming, averages, skipped steps."""

import dataclasses
import shutil

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays, read
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, NotFinite, Settings
from dbp.errors import NotFiniteError, UserError
from dbp.optim import LAMB, LARS, SGD, Adagrad, Adam, AdamW, Lion, Muon, NAdam, Plateau, RMSprop
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.trained.evaluator import evaluator_of
from dbp.training.fit import train
from tests.jobs import PROGRAMS, dbp, mpirun, newest_checkpoint, slow

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5)).astype(np.float32)
Y = np.tanh(X[:, :2])
BAD = X.copy()
BAD[7] = 1e38  # whose loss is more than float32 holds, so that one step an epoch is not finite
OPTIONS = {
    "weight_decay": 0.01,
    "layer_rates": {"dense_2/*": 0.5},
    "clip_norm": 1.0,
    "average": 0.8,
}
BASE = Settings(
    model=[nn.Dense(8, "relu"), nn.Dense(6, "leaky_relu"), nn.Dense(2)],
    loss="mean_squared_error",
    data=Data((BAD, Y), validation=(X, Y)),
    optimizer=Adam(1e-2, **OPTIONS),
    epochs=4,
    batch_size=15,
    schedule=Plateau(patience=0, threshold=0.5, gamma=0.5),
    shards=3,
    checkpoint=Checkpoint(every_steps=1, keep=100),
    not_finite=NotFinite("skip"),
)
KINDS = (Adagrad, RMSprop, Adam, AdamW, NAdam, LARS, LAMB, Lion, Muon)
METHODS = [SGD(0.01, 0.9, nesterov=True, **OPTIONS), *(method(learning_rate=0.01, **OPTIONS) for method in KINDS)]


def run(settings=BASE, **changes):
    return train(dataclasses.replace(settings, **changes), OneProcess(), Start(quiet=True))


@pytest.mark.parametrize("method", [*METHODS[:2], *slow(*METHODS[2:])], ids=lambda method: method.kind)
def test_resumed_to_the_same_bits(tmp_path, method):
    """Runs resume in mid-epoch, after a reduction of the rate: weights, average, state and history agree."""
    whole = run(optimizer=method, out=str(tmp_path / "whole"))
    part = tmp_path / "part" / "checkpoints"
    part.mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "checkpoints" / "step-000000014.h5", part)
    resumed = run(optimizer=method, out=str(tmp_path / "part"))
    assert digest_arrays(resumed.weights) == digest_arrays(whole.weights)
    for name in ("cost", "validation_cost", "skipped", "learning_rate"):
        assert resumed.history[name] == whole.history[name]
    assert whole.history["learning_rate"][0] > whole.history["learning_rate"][-1] > 0
    one, other = (dict(read(tmp_path / f / "checkpoints" / "step-000000016.h5").arrays()) for f in ("whole", "part"))
    skip = "history/seconds"
    assert digest_arrays({n: a for n, a in one.items() if n != skip}) == digest_arrays(
        {n: a for n, a in other.items() if n != skip}
    )


@pytest.fixture(scope="module")
def alone():
    """Return what one process prints for all methods."""
    outcome = mpirun(1, PROGRAMS / "first_order_digests.py")
    assert outcome.code == 0, outcome.text
    assert len(set(outcome.out.splitlines())) == 12
    return outcome.out


@pytest.mark.slow
def test_three_ranks_give_the_same_bits(alone):
    outcome = mpirun(3, PROGRAMS / "first_order_digests.py")
    assert outcome.code == 0, outcome.text
    assert outcome.out == alone


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "words"), [("2,1", ()), ("2,1", ("divided",))])
def test_any_nodes_give_the_same_bits(alone, sizes, words):
    ranks = sum(map(int, sizes.split(",")))
    outcome = mpirun(ranks, PROGRAMS / "first_order_digests.py", *words, env={"DBP_NODE_SIZES": sizes})
    assert outcome.code == 0, outcome.text
    assert outcome.out == alone


def test_the_average_is_used_and_the_weights_are_kept(tmp_path):
    result = run(out=str(tmp_path))
    checkpoint = newest_checkpoint(tmp_path)
    averaged, raw = checkpoint.optimizer["average"], checkpoint.model
    assert digest_arrays(result.weights) == digest_arrays(averaged) == digest_arrays(checkpoint.inference_weights())
    assert digest_arrays(raw) != digest_arrays(averaged)
    plain = run(optimizer=dataclasses.replace(BASE.optimizer, average=0.0))
    assert digest_arrays(plain.weights) == digest_arrays(raw)
    assert plain.history["validation_cost"] != result.history["validation_cost"]


def test_averaged_weights_are_used_with_moments_averaged_alike(tmp_path):
    """Move both by the same share after each step, and evaluate with both."""
    model = [nn.Dense(4), nn.BatchNorm(0.5), nn.Dense(2)]
    settings = dataclasses.replace(BASE, model=model, data=Data((X, Y), validation=(X, Y)), epochs=1)
    result = run(settings, out=str(tmp_path))
    steps = [read(path) for path in sorted((tmp_path / "checkpoints").iterdir())]
    expected: dict = {}
    for number, checkpoint in enumerate(steps, 1):
        for name, value in checkpoint.model.items():
            before = expected.get(name, value)
            expected[name] = before + max(0.2, 10 / (number + 9)) * (value - before)
    assert result.weights.keys() == steps[-1].model.keys() == expected.keys()
    for name, value in result.weights.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(value, steps[-1].inference_weights()[name])
    assert not np.array_equal(result.weights["batch_norm_1/running_mean"], steps[-1].model["batch_norm_1/running_mean"])
    cost = evaluated(model, "mean_squared_error", result.weights, (X, Y))
    assert result.history["validation_cost"] == [pytest.approx(cost, rel=1e-6)]


def evaluated(model, loss, weights, data):
    return evaluator_of(model, loss, weights, data, OneProcess()).evaluate().values["cost"]


def test_a_high_average_follows_a_short_run():
    data = Data((X, Y), validation=(X, Y))
    costs = [
        run(data=data, optimizer=Adam(1e-2, average=a), epochs=8).history["validation_cost"][-1] for a in (0, 0.9999)
    ]
    assert costs[1] < 1.3 * costs[0]


def test_before_the_first_step_the_average_is_that_of_the_first_weights(tmp_path):
    result = run(out=str(tmp_path), epochs=0)
    assert digest_arrays(result.weights) == digest_arrays(run(epochs=0, optimizer=Adam()).weights)
    assert digest_arrays(newest_checkpoint(tmp_path).inference_weights()) == digest_arrays(result.weights)


@pytest.mark.slow
def test_the_command_line_uses_the_average_too(small, tmp_path):
    """Eval prints the cost of the averaged weights, as train did, and not that of the last weights."""
    trained = dbp("train", small, "--set", "optimizer.average=0.9", "--set", "epochs=1")
    assert trained.code == 0, trained.text
    told = trained.out.partition("test: ")[2]
    assert dbp("eval", tmp_path / "run", "dbp:digits-test").out == told
    plain = dbp("train", small, "--set", "epochs=1", "--out", tmp_path / "plain")
    assert plain.out.partition("test: ")[2] != told


def test_skipped_steps_are_told_and_do_not_spoil_the_epoch(capsys):
    result = train(BASE, OneProcess())
    assert capsys.readouterr().out.count("warning: 1 step was skipped, as the cost or its gradient was not finite") == 4
    assert result.history["skipped"] == [1] * 4
    assert np.isfinite(result.history["cost"]).all()
    assert result.steps == 16
    with pytest.raises(NotFiniteError, match=r"(?s)at step \d .*not_finite.action = 'skip'"):
        run(optimizer=Adam(1e-2), not_finite=NotFinite())


def test_an_epoch_without_any_step_has_no_cost():
    history = run(data=Data((BAD[5:8], Y[5:8])), batch_size=3, epochs=2).history
    assert np.isnan(history["cost"]).all()
    assert history["skipped"] == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"decay": ("dens_1/*",)},
            "decay must name parameters of the model, but has 'dens_1/.'; the nearest name is 'de",
        ),
        (
            {"layer_rates": {"dense_4/bias": 2.0}},
            "layer_rates must name .* 'dense_4/bias'; the nearest .* 'dense_./bias'",
        ),
    ],
)
def test_patterns_of_no_parameter_are_found_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(optimizer=Adam(**options), out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_patterns_of_no_parameter_are_the_users_mistake(small, tmp_path):
    outcome = dbp("train", small, "--set", "optimizer.decay=['dense_9/*']")
    assert outcome.code == 2
    assert "optimizer: decay must name parameters of the model, but has 'dense_9/*'; the nearest name is" in outcome.err
    assert not (tmp_path / "run").exists()

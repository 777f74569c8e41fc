"""Warnings about a model before its first step: activations that the loss contains, shards of few numbers."""

import dataclasses

import numpy as np
import pytest

from dbp import nn, optim
from dbp.autodiff import reshape, softmax
from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.errors import UserError
from dbp.parallel import OneProcess
from dbp.reading.order import Batches
from dbp.run.model_check import model_warnings
from dbp.training.fit import train

MODELS = [
    ([nn.Dense(3, "softmax")], "softmax"),
    ([nn.Dense(3), nn.Activation("sigmoid")], "sigmoid"),
    ([nn.Recompute([nn.Dense(3, "softmax")])], "softmax"),
    ([nn.Residual([nn.Dense(4)], activation="sigmoid"), nn.Reshape((2, 2))], "sigmoid"),
    (lambda scope, x: reshape(softmax(x @ scope.parameter("w", (4, 6))), shape=(len(x), 2, 3)), "softmax"),
    ([nn.Dense(3)], ""),
    ([nn.Dense(3, "softmax"), nn.Dense(3)], ""),
    ([nn.Dense(3, "tanh")], ""),
]


def warnings_of(model, loss="mean_squared_error", x=None, batch_size=32, shards=1, examples=64):
    x = np.zeros((2, 4), "float32") if x is None else x
    settings = Settings(model, loss, (x, x), optim.SGD(0.1), 1, batch_size)
    initial = nn.initial_parameters(settings.model, x, 0)
    trial = nn.training_trial(settings.model, initial, x)
    return model_warnings(settings.loss, trial, shards, Batches(examples, batch_size))


@pytest.mark.parametrize(("model", "ending"), MODELS)
@pytest.mark.parametrize(("loss", "applies"), [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")])
def test_activations_that_the_loss_contains(model, ending, loss, applies):
    warnings = warnings_of(model, loss)
    assert len(warnings) == bool(ending)
    for warning in warnings:
        assert f"the model ends with {ending}, but {loss} takes" in warning
        assert f"applies {applies} itself; leave {ending} out" in warning


@pytest.mark.parametrize("loss", ["mean_squared_error", "hinge", "huber"])
def test_other_losses_take_outputs_as_they_are(loss):
    assert warnings_of([nn.Dense(3, "softmax")], loss) == []


NORMALIZED = [nn.Dense(3), nn.BatchNorm(), nn.Dense(3)]


def test_shards_of_few_numbers():
    assert warnings_of(NORMALIZED, shards=2) == []
    (warning,) = warnings_of(NORMALIZED, shards=3)
    assert "batch_norm_1: with batch_size 32 in 3 shards the moments of a shard are of only 10 numbers" in warning
    (warning,) = warnings_of(NORMALIZED, examples=65)
    assert "batch_norm_1: the last mini-batch of an epoch has 1 of 32 examples in 1 shard" in warning
    for shards in (17, 32, 40):
        with pytest.raises(
            UserError, match=rf"batch_norm_1: with batch_size 32 in {shards} shards a shard has 1 number"
        ):
            warnings_of(NORMALIZED, shards=shards)


def test_moments_of_the_whole_mini_batch_do_not_depend_on_shards():
    together = [nn.Dense(3), nn.BatchNorm(statistics="batch"), nn.Dense(3)]
    assert warnings_of(together, shards=32) == []
    (warning,) = warnings_of(NORMALIZED, shards=3)
    assert warning.endswith('take fewer shards, a larger batch_size, or statistics = "batch" for better ones')
    (warning,) = warnings_of(together, batch_size=8, shards=2)
    assert "batch_norm_1: with batch_size 8 the moments of a mini-batch are of only 8 numbers" in warning
    with pytest.raises(UserError, match="with batch_size 1 a mini-batch has 1 number per channel"):
        warnings_of(together, batch_size=1)


def test_positions_count_as_numbers():
    sequences = np.zeros((2, 8, 4), "float32")
    model = [nn.BatchNorm(), nn.MaxPool1d(2), nn.BatchNorm(), nn.Flatten(), nn.Dense(1)]
    assert warnings_of(model, x=sequences, shards=8) == []
    (warning,) = warnings_of(model, x=sequences, shards=12)
    assert "batch_norm_2: with batch_size 32 in 12 shards the moments of a shard are of only 8 numbers" in warning


def test_a_run_says_it_once_and_a_refused_one_writes_nothing(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((32, 4)).astype("float32")
    model = [nn.Dense(4), nn.BatchNorm(), nn.Dense(2, "softmax")]
    settings = Settings(model, "cross_entropy", Data((x, np.arange(32) % 2)), optim.SGD(0.1), 2, 8)
    train(dataclasses.replace(settings, shards=2), OneProcess())
    out = capsys.readouterr().out
    assert out.count("warning: the model ends with softmax, but cross_entropy takes its outputs for logits") == 1
    assert out.count("warning: batch_norm_1: with batch_size 8 in 2 shards") == 1
    with pytest.raises(UserError, match="with batch_size 8 in 8 shards a shard has 1 number per channel"):
        train(dataclasses.replace(settings, shards=8, out=str(tmp_path / "run")), OneProcess())
    assert not (tmp_path / "run").exists()

"""Test the loss of a config: one, or one for each of several targets."""

import pytest

from dbp import nn
from dbp.config.from_table import settings_from
from dbp.config.loss_table import loss_table, read_loss
from dbp.config.to_table import table_from
from dbp.errors import UserError

REST = {"model": {"layers": [{"kind": "dense", "units": 1}]}, "data": {"train": "a.h5"}, "optimizer": "adam"}


def settings_of(**changes):
    return settings_from({**REST, "epochs": 1, "batch_size": 1, **changes})


def test_losses_by_target_are_read_and_written():
    table = {"class": "cross_entropy", "energy": {"kind": "huber", "delta": 2.0, "weight": 0.1}}
    settings = settings_of(loss=table, metrics={"class": ["accuracy"], "energy": ["rmse", "r2"]})
    assert settings.loss == nn.as_loss(table)
    assert [metric.kind for metric in settings.metrics["energy"]] == ["rmse", "r2"]
    written = table_from(settings)
    assert written["loss"]["energy"] == {"kind": "huber", "delta": 2.0, "weight": 0.1}
    assert settings_from(written) == settings
    assert table_from(settings_of(loss="huber"))["loss"] == {"kind": "huber", "delta": 1.0}


def test_a_plain_loss_with_a_weight_becomes_a_table():
    loss = nn.JointLoss({"a": nn.TargetLoss(nn.MeanSquaredError(), 0.5), "b": nn.TargetLoss(nn.MeanSquaredError())})
    found = loss_table(loss, lambda one: one.kind)
    assert found == {"a": {"kind": "mean_squared_error", "weight": 0.5}, "b": "mean_squared_error"}
    assert read_loss(found, "loss", lambda kinds, value, key: kinds[dict(value)["kind"]]()) == loss


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"a": "hubert"}}, "unknown loss.a kind 'hubert'"),
        ({"loss": {"a": {"kind": "huber", "weight": -1}}}, "loss.a: weight must be at least 0"),
        ({"loss": {"a": {"kind": "huber", "wieght": 2}}}, r"'loss.a.wieght'; did you mean 'loss.a.weight'\?"),
        ({"loss": {"a": "huber"}, "metrics": {"b": ["rmse"]}}, "unknown target of metrics 'b'"),
        ({"loss": {"a": "huber"}, "metrics": {"a": "rmse"}}, "metrics.a must be a list"),
    ],
)
def test_mistakes_are_named_by_their_keys(changes, message):
    with pytest.raises(UserError, match=message):
        settings_of(**changes)

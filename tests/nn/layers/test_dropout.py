"""Dropout: how many inputs become zero, and draws that depend on no rank."""

import itertools

import numpy as np
import pytest

from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.reading.shard import Shard
from tests.nn.models import DRAW, cost_of, inputs


def masks(draw, rate=0.3):
    """Return what two layers, one of them called twice, make of ones."""
    layer, scope = nn.Dropout(rate), nn.use({}, {}, draw)
    one, other = scope.inside("dropout_1"), scope.inside("dropout_2")
    return [layer(inner, np.ones((200, 50))) for inner in (one, other, one)]


def test_dropout_keeps_the_mean():
    for mask in masks(DRAW):
        assert set(np.unique(mask)) == {0, 1 / 0.7}
        assert abs(np.mean(mask == 0) - 0.3) < 5 * np.sqrt(0.21 / mask.size)
        assert mask.mean() == pytest.approx(1, abs=0.04)


def test_dropout_is_none_outside_of_training_and_at_rate_zero():
    x = inputs(4, 3)
    assert nn.Dropout(0.5)(nn.use({}), x) is x
    assert nn.Dropout(0)(nn.use({}, {}, DRAW), x) is x


def test_dropout_depends_on_seed_step_shard_layer_and_call_alone():
    for one, other in zip(masks(DRAW), masks(nn.RandomKey(3, 5, 1)), strict=True):
        np.testing.assert_array_equal(one, other)
    draws = [DRAW, *(DRAW._replace(**{name: 7}) for name in nn.RandomKey._fields)]
    different = [mask for draw in draws for mask in masks(draw)]
    for one, other in itertools.combinations(different, 2):
        assert 0.3 < np.mean(one != other) < 0.54  # 2 x 0.3 x 0.7 for independent ones


def test_a_shard_draws_the_same_whoever_computes_it():
    """Losses shard by shard equal those of the whole mini-batch; another step draws anew."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Dense(3), nn.Dropout(0.2))
    x, y = inputs(12, 4), np.arange(12) % 3
    cost, w, _ = cost_of(model, nn.CrossEntropy(), x, y, shards=4, seed=8)
    batch, objective = cost.batch, cost.objective
    whole = cost.value_and_gradient(w).cost
    empty = [Shard(s.number, s.inputs[:0], s.targets[:0], None) for s in batch]
    parts = []
    for i in range(4):
        alone = [s if s.number == i else e for s, e in zip(batch, empty, strict=True)]
        parts.append(MiniBatchCost(objective, alone, 0).value_and_gradient(w).totals.loss)
    assert sum(parts) / 12 == pytest.approx(whole, rel=1e-14)
    assert MiniBatchCost(objective, batch, 1).value_and_gradient(w).cost != whole
    assert MiniBatchCost(objective, batch, 0).value_and_gradient(w).cost == whole

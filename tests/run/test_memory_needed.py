"""The bytes that the vectors of a run take on a node: closed forms for weights, state, copies and gradients."""

from types import SimpleNamespace

import numpy as np
import pytest

from dbp import nn
from dbp.config.settings import EarlyStopping, Settings
from dbp.nn import RunningMoments
from dbp.optim import Adam
from dbp.parallel import Layout, Shards
from dbp.parallel.ranks.nodes import Nodes
from dbp.run.memory_needed import memory_needed
from tests.small_data import X, Y

NUMBERS, FROZEN, BYTES = 12, 5, 4  # trained and frozen parameters, in float32
VECTORS = 2  # of Adam: both moments


def needed(ranks_of_nodes=(1,), running=None, **changes):
    given = {"model": [nn.Dense(3)], "loss": "cross_entropy", "data": (X, Y), "optimizer": Adam(1e-3), "epochs": 1}
    settings = Settings.of(**(given | {"batch_size": 5, "shards": 4} | changes))
    comm = SimpleNamespace(size=sum(ranks_of_nodes), nodes=Nodes(ranks_of_nodes))
    layouts = Layout({"weight": (3, 4)}), Layout({"frozen": (FROZEN,)})
    return memory_needed(settings, comm, *layouts, Shards(4, 0, comm.size), running or {})


@pytest.mark.parametrize(
    ("vectors", "given"),
    [
        (1 + VECTORS, {}),
        (1 + VECTORS + 1, {"early_stopping": EarlyStopping(restore_best=True)}),
        (1 + VECTORS + 1 + VECTORS, {"out": "a run with checkpoints"}),
        (1 + 1 + VECTORS, {"ranks_of_nodes": (2, 2)}),
        (1 + 1 + VECTORS / 2, {"ranks_of_nodes": (2, 2), "divide_state": True}),
        (1 + 1 + VECTORS + 2, {"ranks_of_nodes": (2, 2), "messages": "top-k"}),
    ],
    ids=["plain", "best epoch", "copy for checkpoints", "sum over nodes", "divided state", "error feedback"],
)
def test_vectors_that_a_node_holds(vectors, given):
    assert needed(**given) == (BYTES * (vectors * NUMBERS + FROZEN), BYTES * NUMBERS)


def test_a_rank_holds_a_gradient_of_each_shard_that_is_computed_at_once():
    moments = RunningMoments(np.zeros(3), np.ones(3), 0.9, over_shards=True)
    assert needed((2,), {"batch_norm": moments}).each == 2 * BYTES * NUMBERS

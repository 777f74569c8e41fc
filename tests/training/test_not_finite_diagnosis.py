"""Where numbers stop being finite: the first operation in data, layers, loss or gradient."""

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import abs_, exp, sqrt
from dbp.checkpoint import digest_arrays
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.nn import Dense
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard
from dbp.training.not_finite_diagnosis import diagnose
from tests.training.not_finite_runs import HOST, X, Y


def looked_at(model, inputs=X, targets=Y, change=None, loss="mean_squared_error", shards=3):
    """Return the diagnosis of one mini-batch as (what, shard, rows); shards have examples from row 100 on."""
    inputs, model, loss = np.asarray(inputs, np.float32), nn.as_model(model), nn.as_loss(loss)
    initial = nn.initial_parameters(model, inputs[:2], 0, np.dtype("float32"))
    layout, comm, parts = Layout(initial.shapes), OneProcess(), Shards(shards)
    objective = Objective(model, loss, layout, comm, parts, np.dtype("float32"), initial.running)
    weights = objective.arena.vector()
    objective.arena.fill(weights, initial.draw)
    if change is not None:
        change(layout.views(weights, writable=True))
    taken = [parts.of_batch(len(inputs), number) for number in range(shards)]
    batch = [Shard(n, inputs[r.start : r.stop], targets[r.start : r.stop], None) for n, r in enumerate(taken)]
    cost = MiniBatchCost(objective, batch, 0)
    running = digest_arrays(nn.running_arrays(initial.running))
    with np.errstate(all="ignore"):
        before = cost.value_and_gradient(weights)
        assert not before.finite
        gradient = before.gradient.copy()
        found = diagnose(cost, weights, lambda number: 100 + np.arange(taken[number].start, taken[number].stop))
        after = cost.value_and_gradient(weights)
    assert gradient.tobytes() == after.gradient.tobytes()
    assert digest_arrays(nn.running_arrays(initial.running)) == running
    assert all((one.rank, one.host) == (0, HOST) for one in found)
    return [(one.what, one.shard, one.rows) for one in found]


def with_row(number, value):
    changed = X.copy()
    changed[number] = value
    return changed


def squared_root(scope, x):
    """Take a square root, whose derivative is infinite at 0."""
    return sqrt(abs_(x @ scope.parameter("weight", (x.shape[-1], 2))))


def grown(scope, x):
    return exp(x * scope.parameter("rate", (x.shape[-1],), "ones")) @ scope.parameter("weight", (x.shape[-1], 2))


def grown_and_more(scope, x):
    """Grow in a layer whose outputs are the first to be not finite, though an earlier one is to blame."""
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
def test_the_first_operation_in_the_forward_pass(model, inputs, change, what):
    assert looked_at(model, inputs, change=change) == [(what, 2, (109,))]


def test_shards_may_fail_at_different_operations():
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
    """Each is 2e38, which float32 can hold once."""
    inputs = np.full((2, 1), 1e19)
    targets = np.zeros((2, 1), np.float32)
    what = "the gradient of dense_1/weight, summed over the shards, each of which is finite"
    found = looked_at([Dense(1, bias=False)], inputs, targets, large("dense_1/weight", 1.0), shards=2)
    assert found == [(what, None, ())]


def test_running_moments():
    found = looked_at([nn.Dropout(0.5), nn.BatchNorm(), Dense(2)], with_row(9, 1e30))
    assert found == [("the mean or variance of the inputs of layer batch_norm_1", 2, ())]


def test_layers_that_normalize_over_the_mini_batch_blame_the_shard_of_the_first_number():
    """Name the shard that spoils all others, and no single example for a gradient that is not finite."""
    together = nn.BatchNorm(statistics="batch")
    found = looked_at([Dense(3), together, Dense(2)], with_row(4, 3e38))
    assert found[0][:2] == ("the outputs of layer dense_1", 1)
    assert {shard for _, shard, _ in found} == {0, 1, 2}
    root = lambda scope, x: squared_root(scope, together(scope.inside("norm"), x))  # noqa: E731
    (what, shard, rows), *_ = looked_at(root, np.zeros_like(X))
    assert what.startswith("the gradient of ")
    assert (shard, rows) == (0, ())

"""Layers at work: initial weights, outputs and the objective of a model, for tests of layers."""

import numpy as np

from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard
from dbp.run.fitted_metrics import default_metrics

DRAW = nn.RandomKey(seed=3, step=5, shard=1)


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def start(model, x, dtype="float64"):
    """Return parameters, none at its initial 0 or 1, and running moments."""

    def with_a_parameter(scope, x):
        scope.parameter("unused", (1,))
        return model(scope, x)

    initial = nn.initial_parameters(with_a_parameter, x, 0, dtype)
    parameters, running = initial.parameters, initial.running
    del parameters["unused"]
    rng = np.random.default_rng(1)
    for array in parameters.values():
        array += 0.3 * rng.standard_normal(array.shape).astype(dtype)
    for moments in running.values():
        moments.mean += rng.standard_normal(moments.mean.shape).astype(dtype)
        moments.variance += rng.random(moments.variance.shape).astype(dtype)
    return parameters, running


def run(model, x, draw=None):
    """Return the model's parameters and outputs."""
    parameters, running = start(model, x)
    return parameters, model(nn.use(parameters, running, draw), x)


def cost_of(model, loss, x, y, weights=None, shards=1, seed=0):
    """Return the cost of these examples as one mini-batch, its flat weights, and its running moments."""
    initial = nn.initial_parameters(model, x, 0, "float64")
    parameters, running = initial.parameters, initial.running
    layout = Layout.of(parameters)
    objective = Objective(
        model,
        loss,
        layout,
        OneProcess(),
        Shards(shards),
        np.dtype("float64"),
        running,
        seed,
        metrics=default_metrics(loss),
    )
    return MiniBatchCost(objective, in_shards(x, y, weights, shards), 0), layout.flatten(parameters, "float64"), running


def in_shards(x, y, weights, shards):
    runs = [Shards(shards).of_batch(len(x), n) for n in range(shards)]
    rows = [slice(run.start, run.stop) for run in runs]
    return [Shard(n, x[r], y[r], None if weights is None else weights[r]) for n, r in enumerate(rows)]


def outputs_of(model, x, seed=0):
    initial = nn.initial_parameters(model, x, seed, "float64")
    return initial.parameters, initial.output_shape, model(nn.use(initial.parameters), x)

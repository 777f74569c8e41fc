"""Step for step the costs of PyTorch, from the same initial weights on the same batches."""

import numpy as np
import pytest

from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.data import ArrayDataset
from dbp.optim import SGD, Adam, State
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.loader import Loader
from dbp.reading.order import Batches, Order
from dbp.reading.output_form import OutputForm

torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")

STEPS = 50
RNG = np.random.default_rng(0)
X = RNG.standard_normal((230, 12))
WEIGHTS = RNG.random(230) + 0.5
TARGETS = {
    "cross_entropy": RNG.integers(0, 4, 230),
    "binary_cross_entropy": RNG.integers(0, 2, (230, 4)).astype(float),
    "mean_squared_error": RNG.standard_normal((230, 4)),
    "mean_absolute_error": RNG.standard_normal((230, 4)),
    "huber": 2 * RNG.standard_normal((230, 4)),
    "hinge": RNG.integers(0, 4, 230),
    "kullback_leibler": RNG.dirichlet(np.ones(4), 230),
}


def torch_loss(name, outputs, targets, weights):
    functional = torch.nn.functional
    if name == "cross_entropy":
        losses = functional.cross_entropy(outputs, targets, reduction="none")
    elif name == "hinge":
        losses = functional.multi_margin_loss(outputs, targets, reduction="none")
    elif name == "kullback_leibler":
        losses = functional.kl_div(functional.log_softmax(outputs, 1), targets, reduction="none").sum(1)
    elif name == "binary_cross_entropy":
        losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)
    else:
        of_numbers = {"mean_squared_error": "mse_loss", "mean_absolute_error": "l1_loss", "huber": "huber_loss"}
        losses = getattr(functional, of_numbers[name])(outputs, targets, reduction="none").mean(1)
    return (losses * weights).sum() / weights.sum()


def torch_costs(loss, method, parameters, data, dtype):
    model = torch.nn.Sequential(
        torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 9), torch.nn.ReLU(), torch.nn.Linear(9, 4)
    ).to(dtype)
    with torch.no_grad():
        for layer, name in zip(model[::2], ("dense_1", "dense_2", "dense_3"), strict=True):
            layer.weight.copy_(torch.from_numpy(parameters[f"{name}/weight"].T.copy()))
            layer.bias.copy_(torch.from_numpy(parameters[f"{name}/bias"].copy()))
    if isinstance(method, SGD):
        optimizer = torch.optim.SGD(model.parameters(), method.learning_rate, momentum=method.momentum)
    else:
        optimizer = torch.optim.Adam(model.parameters(), method.learning_rate)
    for rows in data:
        targets = torch.from_numpy(TARGETS[loss][rows])
        cost = torch_loss(
            loss,
            model(torch.from_numpy(X[rows]).to(dtype)),
            targets if targets.dtype == torch.int64 else targets.to(dtype),
            torch.from_numpy(WEIGHTS[rows]).to(dtype),
        )
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        yield cost.item()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", [SGD(0.05, momentum=0.9), Adam(3e-3)])
@pytest.mark.parametrize("loss", TARGETS)
def test_costs_step_for_step(loss, method, dtype):
    model = nn.Sequential(nn.Dense(16, "tanh"), nn.Dense(9, "relu"), nn.Dense(4))
    initial = nn.initial_parameters(model, X, 0, dtype)
    parameters, output_shape = initial.parameters, initial.output_shape
    layout, shards, precision = Layout({n: p.shape for n, p in parameters.items()}), Shards(3), np.dtype(dtype)
    objective = Objective(model, nn.loss_named(loss), layout, OneProcess(), shards, precision)
    loader = Loader(
        ArrayDataset(X, TARGETS[loss], WEIGHTS), OutputForm(nn.loss_named(loss), output_shape), precision, shards
    )
    weights = layout.flatten(parameters, dtype)
    state = State.of(method, lambda count: np.zeros((count, len(weights)), weights.dtype))
    batches, costs, rows = Batches(230, 32), [], []
    for step in range(STEPS):
        epoch, within = divmod(step, batches.steps)
        order, positions = Order(230, 0, "order", epoch), batches.positions(within)
        rows.append(order.rows(positions))
        cost = MiniBatchCost(objective, loader.batch(order, positions), step)
        costs.append(method.step(cost, weights, state, step + 1, 1.0).evaluation.cost)
    expected = list(torch_costs(loss, method, parameters, rows, getattr(torch, dtype)))
    np.testing.assert_allclose(costs, expected, rtol=1e-5 if dtype == "float32" else 1e-10)
    assert len(set(costs)) == STEPS  # so something moved

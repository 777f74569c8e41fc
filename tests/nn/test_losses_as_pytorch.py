"""Losses beside PyTorch's in float64, with weights of examples, of positions and masks."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard
from tests.nn.torch_comparison import assert_close, pullbacks, start, tensors, torch_products
from tests.nn.torch_layers import TorchScope, first, follow, functional, torch


def torch_losses(loss, z, targets):
    """Return PyTorch's loss at each position."""
    if loss.kind == "cross_entropy":
        of_positions = targets if targets.dtype == torch.int64 else first(targets)
        smoothing = loss.label_smoothing
        return functional.cross_entropy(first(z), of_positions, reduction="none", label_smoothing=smoothing)
    if loss.kind == "kullback_leibler":
        return functional.kl_div(functional.log_softmax(z, -1), targets, reduction="none").sum(-1)
    if loss.kind == "hinge":
        flat = z.reshape(-1, z.shape[-1]), targets.reshape(-1)
        return functional.multi_margin_loss(*flat, margin=loss.margin, reduction="none").reshape(targets.shape)
    if loss.kind == "huber":
        return functional.huber_loss(z, targets, reduction="none", delta=loss.delta)
    name = {
        "binary_cross_entropy": "binary_cross_entropy_with_logits",
        "mean_squared_error": "mse_loss",
        "mean_absolute_error": "l1_loss",
    }[loss.kind]
    return getattr(functional, name)(z, targets, reduction="none")


def targets_for(loss, probabilities, positions, rng):
    """Draw targets of nine examples with three outputs at each position."""
    shape = (9, *positions)
    if probabilities:
        return rng.dirichlet(np.ones(3), shape)
    if isinstance(loss, (nn.CrossEntropy, nn.Hinge)):
        return rng.integers(0, 3, shape)
    return rng.random((*shape, 3)) if isinstance(loss, nn.BinaryCrossEntropy) else rng.standard_normal((*shape, 3))


LOSSES = [
    (nn.CrossEntropy(), False),
    (nn.CrossEntropy(), True),
    (nn.CrossEntropy(0.2), False),
    (nn.CrossEntropy(0.2), True),
    (nn.KullbackLeibler(), True),
    (nn.Hinge(), False),
    (nn.Hinge(0.5), False),
    (nn.BinaryCrossEntropy(), False),
    (nn.MeanSquaredError(), False),
    (nn.MeanAbsoluteError(), False),
    (nn.Huber(), False),
    (nn.Huber(0.4), False),
]


def weights_for(kind, positions, rng):
    """Draw no weights, one for each example, one for each position, or a mask of positions."""
    if kind == "mask":
        return (rng.random((9, *positions)) < 0.6).astype(float)
    return {"none": None, "examples": rng.random(9), "positions": rng.random((9, *positions))}[kind]


@pytest.mark.parametrize("weighted", ["none", "examples", "positions", "mask"])
@pytest.mark.parametrize("positions", [(), (4,), (2, 3)], ids=str)
@pytest.mark.parametrize(("loss", "probabilities"), LOSSES, ids=str)
def test_losses(loss, probabilities, positions, weighted):
    rng = np.random.default_rng(5)
    x, targets = rng.standard_normal((9, *positions, 5)), targets_for(loss, probabilities, positions, rng)
    weights = weights_for(weighted, positions, rng)
    model = nn.Sequential(nn.Dense(4, "tanh"), nn.Dense(3))
    parameters, _ = start(model, x)
    theirs = tensors(parameters)
    outputs, truth = follow(model, TorchScope(theirs, training=True), torch.tensor(x)), torch.tensor(targets)

    def torch_cost_of(z):
        losses = torch_losses(loss, z, truth)
        w = torch.ones(9) if weights is None else torch.tensor(weights)
        losses = losses.reshape(*w.shape, -1).mean(-1)
        return (losses * w).sum() / w.sum()

    layout = Layout.of(parameters)
    objective = Objective(model, loss, layout, OneProcess(), Shards(2), np.dtype("float64"))
    runs = [Shards(2).of_batch(9, n) for n in range(2)]
    batch = [
        Shard(n, *(None if a is None else a[run.start : run.stop] for a in (x, targets, weights)))
        for n, run in enumerate(runs)
    ]
    result = MiniBatchCost(objective, batch, 0).value_and_gradient(layout.flatten(parameters, "float64"))
    cost, leaves = torch_cost_of(outputs), list(theirs.values())
    assert result.cost == pytest.approx(cost.item(), rel=1e-12)
    assert_close(layout.views(result.gradient), pullbacks(cost, leaves), "gradient by")
    if not isinstance(loss, nn.Hinge):  # of which PyTorch has no second derivative
        found = torch_products_of(outputs, torch_cost_of, leaves)
        compare_products(model, loss, parameters, (x, targets, weights), found)


def torch_products_of(outputs, cost_of, leaves):
    """Return second-order products for tangents in PyTorch's layout, and these tangents."""
    rng = np.random.default_rng(6)
    tangents = [rng.standard_normal(tuple(leaf.shape)) for leaf in leaves]
    return tangents, torch_products(outputs, cost_of, leaves, [torch.tensor(t) for t in tangents])


def compare_products(model, loss, parameters, data, found):
    x, targets, weights = data
    tangents, (hessian, gauss_newton) = found
    moved = dict(zip(parameters, tangents, strict=True))

    def outputs_of(given):
        return model(nn.use(given), x)

    def cost_of(z):
        losses = loss(z, targets)
        w = np.ones(9) if weights is None else weights
        losses = ad.mean(losses, axis=tuple(range(w.ndim, np.ndim(losses)))) if np.ndim(losses) > w.ndim else losses
        return ad.sum_(losses * w) / w.sum()

    (ours,) = ad.hessian_product(lambda given: cost_of(outputs_of(given)), (parameters,), (moved,))
    (also_ours,) = ad.gauss_newton_product(outputs_of, cost_of, (parameters,), (moved,))
    assert_close(ours, hessian, "Hessian product by")
    assert_close(also_ours, gauss_newton, "Gauss-Newton product by")


def test_every_loss_is_compared():
    assert {type(loss) for loss, _ in LOSSES} == set(nn.LOSSES.values())

"""Kronecker factors of a mini-batch: the sums over examples by hand, for any shards, with weights and masks."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.errors import UserError
from dbp.nn import RandomKey
from dbp.parallel import Arena, Layout, OneProcess, Shards
from dbp.reading.shard import Shard

RNG = np.random.default_rng(0)
X, SEQUENCES = RNG.standard_normal((9, 4)), RNG.standard_normal((9, 3, 4))
WEIGHTS, POSITIONS = RNG.random(9), (RNG.random((9, 3)) > 0.3).astype(float)


@dataclass(frozen=True)
class Drawn(nn.MeanSquaredError):
    """The squared error, whose drawn targets follow from the outputs."""

    kind: ClassVar[str] = "drawn"

    def draw(self, outputs, numbers):  # noqa: ARG002
        """Return targets without a random number."""
        return outputs + np.sin(1000 * outputs)


def cost_of(model, loss, inputs, shards, weights=None, mask=None):
    """Return the cost of a mini-batch in so many shards, and random weights."""
    model = nn.as_model(model)
    initial = nn.initial_parameters(model, inputs, 0, "float64", mask=mask)
    layout, parts = Layout.of(initial.parameters), Shards(shards)
    arena = Arena(OneProcess(), layout, "float64", share=False)
    objective = Objective(model, loss, layout, OneProcess(), parts, np.dtype("float64"), initial.running, 3, arena)
    columns = inputs, np.zeros((*inputs.shape[:-1], 2)), weights, mask
    rows = [np.array(parts.of_batch(len(inputs), number), int) for number in range(shards)]
    batch = [Shard(number, *(None if a is None else a[some] for a in columns)) for number, some in enumerate(rows)]
    return MiniBatchCost(objective, batch, 5), layout.flatten(initial.parameters, "float64")


def factors(cost, w, longest=100, part=1.0):
    """Return the factors by name."""
    found = cost.kronecker_factors(w, part, longest)
    return {name: array.copy() for name, array in found.space.layout.views(found.total).items()}


def scaled(scope, x):
    """Return outputs of a dense layer, times a parameter that no sum has."""
    return nn.Dense(2)(scope.inside("dense"), ad.tanh(nn.Dense(3)(scope.inside("first"), x))) * scope.parameter(
        "s", (2,)
    )


@pytest.mark.parametrize("shards", [1, 4, 11])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_they_are_means_over_the_examples(shards, weights):
    cost, w = cost_of(scaled, Drawn(), X, shards, weights)
    found, each = factors(cost, w), np.ones(9) if weights is None else weights
    values = {name: ad.Tensor(view) for name, view in cost.objective.layout.views(w).items()}
    hidden = np.tanh(X @ values["first/weight"].value + values["first/bias"].value)
    z = hidden @ values["dense/weight"].value + values["dense/bias"].value
    scale = values["s"].value
    by_outputs = -2 * np.sin(1000 * z * scale) / np.sqrt(2)  # the root of a mean over two outputs
    by_z = by_outputs * scale
    rows = np.hstack([hidden, np.ones((9, 1))])
    assert found.keys() == {f"{a}/{b}/weight" for a in ("inputs", "deltas") for b in ("first", "dense")} | {"squares/s"}
    total = each.sum()
    np.testing.assert_allclose(found["inputs/dense/weight"], (rows.T * each) @ rows / total, rtol=1e-10)
    np.testing.assert_allclose(found["deltas/dense/weight"], (by_z.T * each) @ by_z / total, rtol=1e-10)
    by_hidden = by_z @ values["dense/weight"].value.T * (1 - hidden**2)
    np.testing.assert_allclose(found["deltas/first/weight"], (by_hidden.T * each) @ by_hidden / total, rtol=1e-10)
    if shards == 11:  # a shard has one example at most, so each gradient is squared alone
        np.testing.assert_allclose(found["squares/s"], each @ (by_outputs * z) ** 2 / total, rtol=1e-10)


def test_positions_count_by_their_weights_and_masks():
    mask = POSITIONS > 0
    cost, w = cost_of([nn.Dense(2, bias=False)], Drawn(), SEQUENCES, 2, POSITIONS, mask)
    found = factors(cost, w)
    weight = cost.objective.layout.views(w)["dense_1/weight"]
    counts = POSITIONS.mean(axis=1, keepdims=True) * mask  # an example counts with the mean of its weights
    by_z = -2 * np.sin(1000 * SEQUENCES @ weight) * np.sqrt(POSITIONS / 2)[:, :, None]
    inputs = np.einsum("nt,nti,ntj->ij", counts, SEQUENCES, SEQUENCES) / counts.sum()
    np.testing.assert_allclose(found["inputs/dense_1/weight"], inputs, rtol=1e-10)
    np.testing.assert_allclose(
        found["deltas/dense_1/weight"], np.einsum("nti,ntj->ij", by_z, by_z) / POSITIONS.sum(), rtol=1e-10
    )


def test_tied_weights_have_factors_of_both_sums():
    def tied(scope, x):
        w = scope.parameter("w", (4, 2))
        return nn.Dense(2)(scope.inside("dense"), ad.tanh(x @ w) @ w.T)

    cost, w = cost_of(tied, Drawn(), X, 3)
    found, values = factors(cost, w), cost.objective.layout.views(w)
    hidden = np.tanh(X @ values["w"])
    last = hidden @ values["w"].T
    by_outputs = -2 * np.sin(1000 * (last @ values["dense/weight"] + values["dense/bias"])) / np.sqrt(2)
    by_last = by_outputs @ values["dense/weight"].T
    by_hidden = (by_last @ values["w"]) * (1 - hidden**2)
    expected = {"inputs": X, "deltas": by_hidden, "transposed_inputs": hidden, "transposed_deltas": by_last}
    for name, rows in expected.items():
        np.testing.assert_allclose(found[f"{name}/w"], rows.T @ rows / 9, rtol=1e-10)


LOSSES = {
    "cross_entropy": (nn.CrossEntropy(), 3),
    "binary_cross_entropy": (nn.BinaryCrossEntropy(), 3),
    "mean_squared_error": (nn.MeanSquaredError(), 3),
    "kullback_leibler": (nn.KullbackLeibler(), 3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_drawn_targets_have_the_hessian_of_the_loss_as_their_fisher_matrix(name):
    """Compare the mean product of gradients for drawn targets with the Hessian by the outputs (Martens 2014)."""
    loss, size = LOSSES[name]
    output = RNG.normal(size=size)
    outputs = np.tile(output, (20_000, 1))
    targets = loss.draw(outputs, np.random.default_rng(1))
    leaf = ad.Tensor(outputs)
    losses = loss(leaf, targets)
    (gradients,) = ad.pullback(losses, np.ones(losses.shape), [leaf])
    one = targets[:1]
    hessian = ad.hessian(lambda z: ad.sum_(loss(ad.reshape(z, shape=(1, size)), one)))(output)
    np.testing.assert_allclose(gradients.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(gradients.T @ gradients / len(gradients), hessian, atol=0.06)


def test_a_loss_that_draws_nothing_takes_the_targets_of_the_data():
    cost, w = cost_of([nn.Dense(2)], nn.FunctionLoss(lambda z, t: ad.sum_(ad.square(z - t), axis=1)), X, 1)
    weight, bias = cost.objective.layout.views(w).values()
    by_z = 2 * (X @ weight + bias)
    np.testing.assert_allclose(factors(cost, w)["deltas/dense_1/weight"], by_z.T @ by_z / 9, rtol=1e-10)


def test_large_factors_are_left_out():
    cost, w = cost_of([nn.Dense(6, "tanh"), nn.Dense(2)], Drawn(), X, 2)
    assert factors(cost, w, longest=6).keys() == {
        *("inputs/dense_1/weight", "deltas/dense_1/weight", "squares/dense_2/weight", "squares/dense_2/bias")
    }


def test_a_model_without_sums_is_refused():
    cost, w = cost_of(lambda scope, x: x[:, :2] * scope.parameter("s", (2,)), Drawn(), X, 1)
    with pytest.raises(UserError, match="no weight of the model"):
        factors(cost, w)


def test_gauss_newton_forms_are_those_of_the_products():
    cost, w = cost_of([nn.Dense(3, "tanh"), nn.Dense(2)], Drawn(), X, 4, WEIGHTS)
    vectors = RNG.normal(size=(3, len(w)))
    products = [cost.curvature(w).gauss_newton_product(v).copy() for v in vectors]
    np.testing.assert_allclose(
        cost.curvature(w).gauss_newton_forms(vectors), vectors @ np.array(products).T, rtol=1e-10
    )


def test_random_numbers_follow_step_and_shard():
    cost, w = cost_of([nn.Dense(2)], nn.MeanSquaredError(), X, 2)
    first = factors(cost, w)["deltas/dense_1/weight"]
    assert (factors(cost, w)["deltas/dense_1/weight"] == first).all()
    later = MiniBatchCost(cost.objective, cost.batch, 6)
    assert (factors(later, w)["deltas/dense_1/weight"] != first).any()
    assert later.draw(cost.batch[1]) == RandomKey(3, 6, 1)

"""Which weights of a model have a Kronecker form, and the inputs of their sums."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.kronecker_layers import KroneckerLayer, add_inputs, kronecker_uses, masks_of
from dbp.nn import Scope, call_with

RNG = np.random.default_rng(0)


def recorded(model, x, mask=None):
    """Return the call of a model with random weights, its output and its leaves."""
    model = nn.as_model(model)
    initial = nn.initial_parameters(model, x, 0, "float64", mask=mask)
    leaves = {name: ad.Tensor(RNG.normal(size=array.shape)) for name, array in initial.parameters.items()}
    call = call_with(leaves, initial.running, record_neurons=True, mask=mask)
    return call, ad.sum_(model(Scope(call), x)), leaves


def found(model, x):
    """Return the names of weight and bias, and the number of uses, of the layers that are found."""
    _, output, leaves = recorded(model, x)
    return {(layer.weight, layer.bias): len(sums) for layer, sums in kronecker_uses([output], leaves).items()}


def function(scope, x):
    """Return two sums with a shared weight, of which one has a bias, and one with a bias of its own."""
    w = scope.parameter("w", (4, 4))
    x = ad.tanh(x @ w + scope.parameter("first", (4,))) @ w
    return x @ scope.parameter("v", (4, 2)) + scope.parameter("b", (2,))


def tied(scope, x):
    """Return an autoencoder whose second weight is the transpose of the first."""
    w = scope.parameter("w", (4, 3))
    return ad.tanh(x @ w) @ w.T


TWICE = nn.Dense(4, "tanh")
ROWS, IMAGES = RNG.normal(size=(5, 4)), RNG.normal(size=(3, 6, 5, 2))
CASES = {
    "dense": ([nn.Dense(3, "relu"), nn.Dense(2, bias=False)], ROWS, {"dense_1": "bias", "dense_2": ""}),
    "convolution": (
        [nn.Conv2d(4, 3, "relu"), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(2)],
        IMAGES,
        {"conv2d_1": "bias", "dense_1": "bias"},
    ),
    "groups": ([nn.Conv2d(4, 3, groups=2), nn.Flatten(), nn.Dense(2)], IMAGES, {"dense_1": "bias"}),
    "norm": ([nn.Dense(3), nn.LayerNorm(), nn.Dense(2)], ROWS, {"dense_1": "bias", "dense_2": "bias"}),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_that_only_sum(case):
    model, x, expected = CASES[case]
    names = {(f"{layer}/weight", f"{layer}/{bias}" if bias else "") for layer, bias in expected.items()}
    assert found(model, x).keys() == names


def test_functions_and_shared_weights():
    assert found(function, ROWS) == {("w", ""): 2, ("v", "b"): 1}
    assert found(tied, ROWS) == {("w", ""): 2}
    assert found(lambda scope, x: x * scope.parameter("w", (4,)) @ np.eye(4), ROWS) == {}
    assert found(lambda scope, x: x @ (w := scope.parameter("w", (4, 4))) + w[0], ROWS) == {}
    assert found(lambda scope, x: x @ (w := scope.parameter("w", (4, 4))) + w.T[0], ROWS) == {}


GEOMETRIES = {
    "dense": (nn.Dense(3), ROWS),
    "dense at positions": (nn.Dense(3), RNG.normal(size=(5, 2, 4))),
    "images": (nn.Conv2d(3, (3, 2), stride=2, padding="same"), IMAGES),
    "dilation": (nn.Conv2d(3, 2, dilation=2), IMAGES),
    "sequences": (nn.Conv1d(3, 3, padding=1), RNG.normal(size=(3, 7, 2))),
    "volumes": (nn.Conv3d(3, 2), RNG.normal(size=(2, 3, 4, 3, 2))),
}


@pytest.mark.parametrize("case", GEOMETRIES)
def test_inputs_times_deltas_are_the_gradient(case, monkeypatch):
    """Find each a as the gradient by W, the sum of a d^T, for a d with a single 1; compare the sum of a a^T."""
    monkeypatch.setattr("dbp.cost.kronecker_layers.PATCHES", 200)  # several pieces
    layer, x = GEOMETRIES[case]
    call, output, leaves = recorded([layer], x)
    ((kronecker, (use,)),) = kronecker_uses([output], leaves).items()
    assert masks_of(call) == {use.z.created: None}
    matrix = np.zeros((kronecker.inputs, kronecker.inputs))
    positions = use.z.size // kronecker.units
    assert add_inputs(use, True, None, None, matrix) == positions
    rows = np.empty((positions, kronecker.inputs))
    for position in range(positions):
        delta = np.zeros(use.z.shape)
        delta.reshape(positions, -1)[position, 0] = 1
        by_w, by_b = ad.pullback(use.z, delta, [leaves[kronecker.weight], leaves[kronecker.bias]])
        rows[position] = [*by_w.reshape(-1, kronecker.units)[:, 0], by_b[0]]
    np.testing.assert_allclose(matrix, rows.T @ rows, rtol=1e-12)


def test_weights_and_masks_count():
    x, mask = RNG.normal(size=(5, 3, 4)), RNG.random((5, 3)) > 0.4
    weights = RNG.random(5)
    call, output, leaves = recorded([nn.Dense(3, bias=False)], x, mask)
    ((layer, (use,)),) = kronecker_uses([output], leaves).items()
    assert layer == KroneckerLayer("dense_1/weight", "", 4, 3)
    (found_mask,) = masks_of(call).values()
    matrix, counts = np.zeros((4, 4)), weights[:, None] * mask
    assert add_inputs(use, False, weights, found_mask, matrix) == pytest.approx(counts.sum())
    np.testing.assert_allclose(matrix, np.einsum("nt,nti,ntj->ij", counts, x, x))

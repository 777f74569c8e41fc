"""Dense layers, by their closed form."""

import numpy as np

from dbp import nn

X = np.random.default_rng(0).standard_normal((5, 3))


def test_dense_is_an_affine_map():
    parameters, shape, y = outputs_of(nn.Dense(4), X)
    assert shape == (4,)
    assert {name: p.shape for name, p in parameters.items()} == {"weight": (3, 4), "bias": (4,)}
    np.testing.assert_allclose(y, X @ parameters["weight"] + parameters["bias"])


def test_dense_without_bias():
    assert list(outputs_of(nn.Dense(4, bias=False), X)[0]) == ["weight"]


def outputs_of(model, x, seed=0):
    initial = nn.initial_parameters(model, x, seed, "float64")
    return initial.parameters, initial.output_shape, model(nn.use(initial.parameters), x)


def test_prelu_begins_as_a_leaky_relu_of_slope_a_quarter():
    x = np.array([[-2.0, 0.0, 3.0]])
    for layer, shape in ((nn.PReLU(), (3,)), (nn.PReLU(shared=True), (1,))):
        initial = nn.initial_parameters(nn.Sequential(layer), x, 0).parameters
        assert initial["prelu_1/slope"].shape == shape
        np.testing.assert_array_equal(nn.Sequential(layer)(nn.use(initial), x), [[-0.5, 0.0, 3.0]])

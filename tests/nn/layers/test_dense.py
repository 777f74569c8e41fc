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

"""Initializers: their variance, and those that draw whole matrices."""

import types

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.nn.initializers import INITIALIZERS
from dbp.random import generator
from tests.nn.models import outputs_of

X = np.random.default_rng(0).standard_normal((5, 3))
VARIANCES = {
    "zeros": 0,
    "ones": 0,
    "quarters": 0,
    "normal": 1,
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
    "orthogonal": 1 / 300,
    "sparse": 15 / 300,
}


def filled(name, shape, stream, dtype="float64"):
    out = np.full(shape, np.nan, dtype)
    INITIALIZERS[name](generator(0, stream), out)
    return out


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_have_their_variance(name):
    values = filled(name, (300, 200), name)
    assert values.var() == pytest.approx(VARIANCES[name], rel=0.05, abs=1e-12)
    assert abs(values.mean() - {"ones": 1, "quarters": 0.25}.get(name, 0)) < 0.01


@pytest.mark.parametrize(("shape", "connections"), [((300, 20), 15), ((3, 3, 4, 7), 15), ((6, 5), 6)])
def test_sparse_weights_connect_an_output_with_a_few_inputs(shape, connections):
    w = filled("sparse", shape, "w")
    assert (np.count_nonzero(w.reshape(-1, shape[-1]), axis=0) == connections).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_orthogonal_is_orthogonal(shape):
    q = filled("orthogonal", shape, "q")
    gram = q.T @ q if shape[0] > shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0), "units must be at least 1, but is 0"),
        (lambda: nn.Dense(3, "rellu"), "unknown activation 'rellu'; did you mean 'relu'"),
        (lambda: nn.Dense(3, initializer="he"), "unknown initializer 'he'"),
        (lambda: nn.Sequential(), "at least one layer"),
        (lambda: nn.loss_named("mse"), "unknown loss 'mse'; did you mean 'mean_squared_error'"),
        (
            lambda: nn.as_loss(types.SimpleNamespace(kind="own")),
            "lacks default_metrics, check, prepare, loss_shape, predict, __call__; give a name",
        ),
        (lambda: nn.as_loss(None), "loss None lacks .*, predict, __call__; give a name"),
        (lambda: nn.as_loss(nn.Huber), r"loss Huber is a class; make an object of it: Huber\(\)"),
        (lambda: nn.as_model(nn.Dense), r"Dense is a class; make an object of it: Dense\(\.\.\.\)"),
        (lambda: nn.as_model("dense"), r"model must be a layer, a list of layers or a function .* but is 'dense'"),
        (lambda: nn.as_model([nn.Dense]), "Dense is a class"),
        (lambda: nn.CrossEntropy(1.0), "label_smoothing must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.Huber(0.0), "delta must be a positive number, but is 0.0"),
        (lambda: nn.Hinge(-1.0), "margin must be a positive number, but is -1.0"),
        (lambda: outputs_of(nn.Flatten(), X), "no parameters"),
        (lambda: outputs_of(lambda s, x: s.parameter("w", (2,)), X), "one output per example"),
        (lambda: outputs_of(lambda s, x: x @ s.parameter("w", (3, 2)) @ s.parameter("w", (2, 3)), X), "asked for as"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()

"""Weights of PyTorch for named layers: merged and shared values of flattened images meet their weights in order."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.exchange.pytorch import rules_of
from tests.nn.models import inputs

Named = nn.Named
SHAPES = {"one": (4, 3, 2), "other": (2, 2, 3), "row": (5,)}
X = {name: inputs(3, *shape) for name, shape in SHAPES.items()}
FLATTENED = [Named(nn.Flatten(), "a", "one"), Named(nn.Flatten(), "b", "other")]


def imported(model, theirs):
    """Return weights in dbp's order, given those of PyTorch by name."""
    initial = nn.initial_parameters(model, X, 0)
    rules = rules_of(model, initial, SHAPES)
    return {name: rules[name].make(*(theirs[n] for n in rules[name].names)) for name in initial.shapes}


def channels_first(x):
    """Return images as rows of numbers in the order of PyTorch."""
    return np.moveaxis(x, -1, 1).reshape(len(x), -1)


def test_rows_that_are_joined_keep_their_order():
    model = nn.Graph(*FLATTENED, Named(nn.Concatenate(), "all", ("a", "row", "b")), Named(nn.Dense(2), "y"))
    matrix, bias = inputs(2, 24 + 5 + 12), inputs(2)
    weights = imported(model, {"y/weight": matrix, "y/bias": bias})
    rows = np.concatenate([channels_first(X["one"]), X["row"], channels_first(X["other"])], axis=1)
    np.testing.assert_allclose(model(nn.use(weights), X), rows @ matrix.T + bias)


def test_values_in_different_orders_cannot_be_added_or_share_weights():
    x = {"one": inputs(2, 4, 3, 2), "other": inputs(2, 2, 3, 4)}
    two = [Named(nn.Flatten(), "a", "one"), Named(nn.Flatten(), "b", "other")]
    added = nn.Graph(*two, Named(nn.Add(), "sum", ("a", "b")), nn.Dense(2))
    shared = nn.Graph(*two, Named(nn.Dense(2), "y", "a"), Named(nn.Shared("y"), "z", "b"), outputs=["y", "z"])
    for model, message in ((added, "sum: weights of PyTorch around a add"), (shared, "y: weights of .* are shared")):
        with pytest.raises(UserError, match=f"^{message}"):
            rules_of(model, nn.initial_parameters(model, x, 0), {name: a.shape[1:] for name, a in x.items()})


def test_images_that_are_joined_have_their_channels_first():
    model = nn.Graph(
        Named(nn.Conv2d(2, 1), "conv", "inputs"),
        Named(nn.Concatenate(), "all", ("conv", "inputs")),
        nn.Flatten(),
        Named(nn.Dense(2), "y"),
    )
    x, matrix, kernel = X["one"], inputs(2, 48), inputs(2, 2, 1, 1)
    initial = nn.initial_parameters(model, x, 0)
    rules = rules_of(model, initial, (4, 3, 2))
    theirs = {"conv/weight": kernel, "conv/bias": inputs(2), "y/weight": matrix, "y/bias": inputs(2, seed=1)}
    weights = {name: rules[name].make(*(theirs[n] for n in rules[name].names)) for name in initial.shapes}
    images = np.concatenate([x @ kernel[:, :, 0, 0].T + theirs["conv/bias"], x], axis=-1)
    expected = channels_first(images) @ matrix.T + theirs["y/bias"]
    np.testing.assert_allclose(model(nn.use(weights), x), expected)

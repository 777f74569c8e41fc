"""Steps of lists of layers: names by number, and layers that are fused with the one after them."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from dbp.nn.layers.steps import Step, numbered, only_input, with_fused
from tests.nn.models import DRAW, inputs, start

CONV, POOL, NORM, RELU = nn.Conv2d(2, 3), nn.MaxPool2d(2), nn.BatchNorm(), nn.Activation("relu")


def test_layers_are_numbered_by_kind():
    assert numbered([nn.Dense(1), nn.Flatten(), nn.Dense(2)]) == ("dense_1", "flatten_1", "dense_2")


@pytest.mark.parametrize(
    ("layers", "apart", "expected"),
    [
        ([CONV, POOL], [], [("0", "1")]),
        ([CONV, POOL], ["0"], [("0", ""), ("1", "")]),
        ([CONV, POOL, POOL], [], [("0", "1"), ("2", "")]),
        ([nn.Conv1d(2, 3), nn.MaxPool1d(2)], [], [("0", "1")]),
        ([nn.Conv1d(2, 3), POOL], [], [("0", ""), ("1", "")]),
        ([nn.Conv1d(2, 3), nn.MaxPool1d(2, 1)], [], [("0", ""), ("1", "")]),
        ([CONV, nn.MaxPool2d(3, 2)], [], [("0", ""), ("1", "")]),
        ([POOL, CONV], [], [("0", ""), ("1", "")]),
        ([NORM, RELU, RELU], [], [("0", "1"), ("2", "")]),
        ([NORM, RELU], ["0"], [("0", ""), ("1", "")]),
        ([NORM, nn.Activation("tanh")], [], [("0", ""), ("1", "")]),
        ([nn.Add(), RELU], [], [("0", "1")]),
        ([nn.Dense(2), POOL], [], [("0", ""), ("1", "")]),
    ],
)
def test_a_layer_is_a_part_of_the_step_of_the_one_that_it_is_fused_with(layers, apart, expected):
    steps = with_fused([Step(str(i), layer) for i, layer in enumerate(layers)], apart)
    assert [(step.name, step.after_name) for step in steps] == expected
    assert steps[-1].output == str(len(layers) - 1)


def test_the_only_input():
    assert only_input(3) == only_input({"image": 3}) == 3
    with pytest.raises(UserError, match="several inputs"):
        only_input({"a": 1, "b": 2})


def named(layers):
    """Return a list that cannot be fused, as the outputs of each layer are outputs of the model."""
    names = [f"layer_{i}" for i in range(len(layers))]
    return nn.Graph(*(nn.Named(layer, name) for layer, name in zip(layers, names, strict=True)), outputs=names), names


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [(NORM, RELU), (nn.Dense(4), NORM, RELU, nn.Dense(3)), (CONV, NORM, RELU, POOL)])
def test_fused_layers_return_the_bits_of_both_apart(layers, training):
    x = inputs(4, 6, 5, 3).astype("float32")
    apart, names = named(layers)
    fused = nn.Graph(*(nn.Named(layer, name) for layer, name in zip(layers, names, strict=True)))
    parameters, running = start(apart, x, "float32")
    results = []
    for model in (apart, fused):
        leaf = ad.Tensor(x)
        y = model(nn.Scope(nn.call_with(parameters, running, DRAW if training else None)), leaf)
        last = y[names[-1]] if isinstance(y, dict) else y
        results.append([len(ad.graph_nodes(last)), last.value, *ad.pullback(last, np.sin(last.value), [leaf])])
    assert results[1][0] < results[0][0]
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_sum_and_relu_after_it_are_one():
    model = nn.Graph(nn.Named(nn.Dense(3), "a"), nn.Dense(3), nn.Named(nn.Add(), "", ("a", "dense_2")), RELU)
    x = inputs(4, 3)
    parameters, _ = start(model, x)
    y = model(nn.use(parameters), ad.Tensor(x))
    assert y.primitive.name == "add_relu_block"
    a = x @ parameters["a/weight"] + parameters["a/bias"]
    b = a @ parameters["dense_2/weight"] + parameters["dense_2/bias"]
    np.testing.assert_allclose(y.value, np.maximum(a + b, 0), rtol=1e-12)

"""Folding batch normalization into the convolution before it, in evaluation."""

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import Tensor
from dbp.errors import UserError
from dbp.nn.call import RandomKey, call_with
from dbp.nn.layers import normalization

CONVOLUTIONS = {
    "3 x 3": nn.Conv2d(8, 3, padding="same"),
    "strided, no bias": nn.Conv2d(8, 3, stride=2, bias=False),
    "1 x 1": nn.Conv2d(8, 1),
    "depth-wise": nn.Conv2d(16, 3, padding="same", groups=16, bias=False),
    "grouped": nn.Conv2d(8, 3, groups=4),
    "Winograd": nn.Conv2d(16, 3, padding="same"),
}
IMAGES = (16, 12, 12, 16)


def network(convolution, *after):
    return nn.Sequential(convolution, nn.BatchNorm(), *after)


def weights_for(model, shape, dtype):
    """Return the parameters and running moments of a model, with numbers as after some training."""
    rng = np.random.default_rng(0)
    initial = nn.initial_parameters(model, np.zeros((2, *shape[1:]), dtype), 0, dtype)
    parameters = {
        name: (array + 0.3 * rng.normal(size=array.shape)).astype(dtype) for name, array in initial.parameters.items()
    }
    for moments in initial.running.values():
        moments.mean[:] = rng.normal(size=len(moments.mean))
        moments.variance[:] = rng.uniform(0.5, 2, len(moments.mean))
    return parameters, initial.running


def apart(model, parameters, running, x):
    """Return the outputs of the layers one after the other, as a call that is traced computes them."""
    call = call_with(parameters, running)
    call.trace = []
    return model(nn.Scope(call), x)


@pytest.fixture
def normalized(monkeypatch):
    """Count the normalizations that are computed apart from a convolution."""
    calls = []
    block = normalization.batch_normalize_block
    monkeypatch.setattr(normalization, "batch_normalize_block", lambda *a, **o: calls.append(1) or block(*a, **o))
    return calls


def check(model, shape, dtype, normalized):
    parameters, running = weights_for(model, shape, dtype)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    expected = apart(model, parameters, running, x)
    assert normalized
    normalized.clear()
    y = model(nn.use(parameters, running), x)
    assert not normalized
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=(1e-13 if dtype == np.float64 else 2e-5) * abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("after", [(), (nn.Activation("relu"),), (nn.Activation("relu"), nn.MaxPool2d(2))])
def test_outputs_are_those_of_both_layers(name, after, dtype, normalized):
    check(network(CONVOLUTIONS[name], *after), IMAGES, dtype, normalized)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(8, 3, padding="causal"), nn.BatchNorm(), nn.MaxPool1d(2)), (4, 20, 6)),
        ((nn.Conv3d(8, 3), nn.BatchNorm(), nn.Activation("relu")), (2, 6, 6, 6, 3)),
    ],
)
def test_sequences_and_volumes(layers, shape, normalized):
    check(nn.Sequential(*layers), shape, np.float32, normalized)


def test_a_graph_and_a_residual_block(normalized):
    inner = nn.Conv2d(4, 3, padding="same"), nn.BatchNorm(), nn.Activation("relu"), nn.Conv2d(4, 1), nn.BatchNorm()
    graph = nn.Graph(nn.Named(nn.Conv2d(4, 1), "first"), nn.BatchNorm(), nn.Residual(inner, (), "relu"))
    check(graph, (3, 6, 6, 2), np.float32, normalized)


@pytest.mark.parametrize("outputs", [("add_1",), ("batch_norm_1", "first")])
def test_outputs_that_are_used_elsewhere_are_computed(outputs, normalized):
    layers = [nn.Named(nn.Conv2d(4, 1), "first"), nn.BatchNorm()]
    if outputs == ("add_1",):
        layers.append(nn.Named(nn.Add(), from_=("batch_norm_1", "first")))
    model = nn.Graph(*layers, outputs=outputs)
    parameters, running = weights_for(model, IMAGES, np.float64)
    x = np.random.default_rng(1).normal(size=IMAGES)
    found, expected = model(nn.use(parameters, running), x), apart(model, parameters, running, x)
    assert len(normalized) == 3  # of the initial call, and of both
    for name in outputs:
        np.testing.assert_array_equal(found[name], expected[name])


def tensors(parameters):
    return {name: Tensor(array) for name, array in parameters.items()}


def test_what_is_differentiated_trained_or_recorded_is_not_folded(normalized):
    model = network(nn.Conv2d(4, 3), nn.Activation("relu"))
    parameters, running = weights_for(model, IMAGES, np.float64)
    x = np.random.default_rng(1).normal(size=IMAGES)
    for moments in running.values():
        moments.frozen = True
    calls = [
        (call_with(parameters, running), Tensor(x)),
        (call_with(tensors(parameters), running), x),
        (call_with(parameters, running, RandomKey(0, 0, 0)), x),
        (call_with(parameters, running, record_neurons=True), x),
    ]
    expected = apart(model, parameters, running, x)
    for number, (call, inputs) in enumerate(calls, start=3):
        y = model(nn.Scope(call), inputs)
        np.testing.assert_array_equal(getattr(y, "value", y), expected)
        assert len(normalized) == number


def test_an_activation_lies_between(normalized):
    model = network(nn.Conv2d(4, 3, "relu"))
    parameters, running = weights_for(model, IMAGES, np.float64)
    model(nn.use(parameters, running), np.ones(IMAGES))
    assert len(normalized) == 2


def test_masked_positions_stay_zeros_for_the_next_layer(normalized):
    model = nn.Sequential(nn.Conv1d(4, 3, padding="same"), nn.BatchNorm())
    parameters, running = weights_for(model, (2, 5, 3), np.float64)
    mask = np.arange(5) < np.array([[3], [5]])
    model(nn.use(parameters, running, mask=mask), np.ones((2, 5, 3)))
    assert len(normalized) == 2


def test_errors_name_the_layer():
    model = network(nn.Conv2d(4, 3), nn.MaxPool2d(9))
    parameters, running = weights_for(network(nn.Conv2d(4, 3)), IMAGES, np.float64)
    with pytest.raises(UserError, match="max_pool2d_1"):
        model(nn.use(parameters, running), np.ones((2, 8, 8, 16)))
    with pytest.raises(UserError, match="conv2d_1: takes"):
        model(nn.use(parameters, running), np.ones((2, 8)))

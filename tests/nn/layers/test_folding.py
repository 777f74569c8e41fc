"""Folding batch normalization into the convolution before it, in evaluation."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.autodiff import ShapeError, Tensor
from dbp.autodiff.blocks import constant_convolution
from dbp.cost import evaluation
from dbp.errors import UserError
from dbp.nn.call import RandomKey, call_with
from dbp.nn.layers import containers, normalization

CONVOLUTIONS = {
    "3 x 3": nn.Conv2d(8, 3, padding="same"),
    "strided, no bias": nn.Conv2d(8, 3, stride=2, bias=False),
    "1 x 1": nn.Conv2d(8, 1),
    "depth-wise": nn.Conv2d(16, 3, padding="same", groups=16, bias=False),
    "grouped": nn.Conv2d(8, 3, groups=4),
    "Winograd": nn.Conv2d(16, 3, padding="same"),
    "separable": nn.SeparableConv2d(16, 3, padding="same", multiplier=2),
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


def count_calls(monkeypatch, owner, name):
    """Count the calls of a function, which still does its work."""
    calls, function = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **o: calls.append(1) or function(*a, **o))
    return calls


@pytest.mark.parametrize("activation", ["linear", "relu", "elu"])
@pytest.mark.parametrize("shortcut", [(), (nn.Conv2d(16, 1, padding="same"), nn.BatchNorm())])
@pytest.mark.parametrize("name", ["Winograd", "depth-wise", "separable", "grouped, padded", "small kernel"])
def test_the_shortcut_of_a_residual_block(name, shortcut, activation, normalized, monkeypatch):
    last = {
        "grouped, padded": nn.Conv2d(16, 3, padding="same", groups=4),
        "small kernel": nn.Conv2d(16, 1, bias=False),
    } | CONVOLUTIONS
    sums = count_calls(monkeypatch, containers, "add_relu_block")
    inner = nn.Conv2d(16, 3, padding="same"), nn.BatchNorm(), nn.Activation("relu"), last[name], nn.BatchNorm()
    check(nn.Sequential(nn.Residual(inner, shortcut, activation)), IMAGES, np.float32, normalized)
    assert len(sums) == (activation == "relu") * 2  # of the initial call, and of that without folding


def test_the_shortcut_of_sequences(normalized):
    inner = nn.Conv1d(6, 3, padding="same"), nn.BatchNorm()
    check(nn.Sequential(nn.Residual(inner, (), "relu")), (4, 20, 6), np.float32, normalized)


@pytest.mark.parametrize("last", [nn.Activation("relu"), nn.MaxPool2d(1)])
def test_a_shortcut_after_relu_or_a_pooling_is_added_after_them(last, normalized):
    inner = nn.Conv2d(16, 3, padding="same"), nn.BatchNorm(), last
    check(nn.Sequential(nn.Residual(inner, (), "relu")), IMAGES, np.float32, normalized)


def test_a_shortcut_of_another_shape_is_refused():
    residual = nn.Residual((nn.Conv2d(16, 3), nn.BatchNorm()), (), "relu")
    parameters, running = weights_for(network(nn.Conv2d(16, 3)), IMAGES, np.float32)
    with pytest.raises(ShapeError, match=r"conv2d_1: returns \(10, 10, 16\) per example, but what is added"):
        residual(nn.use(parameters, running), np.ones(IMAGES, np.float32))


def test_calls_with_the_same_parameters_prepare_them_once(monkeypatch):
    folds = count_calls(monkeypatch, nn.BatchNorm, "folded")
    transforms = count_calls(monkeypatch, constant_convolution, "transformed_weights")
    convolution = nn.Named(nn.Conv2d(16, 3, padding="same"), "twice")
    model = nn.Graph(convolution, nn.BatchNorm(), nn.Shared("twice"), nn.BatchNorm(), nn.Conv2d(16, 3, padding="same"))
    parameters, running = weights_for(model, IMAGES, np.float32)
    x = np.random.default_rng(1).normal(size=IMAGES).astype(np.float32)
    alone, shared = call_with(parameters, running), [call_with(parameters, running) for _ in range(3)]
    expected = model(nn.Scope(alone), x)
    assert len(folds) == 2
    assert len(transforms) == 3
    for call in shared:
        call.prepared = shared[0].prepared
        np.testing.assert_array_equal(model(nn.Scope(call), x), expected)
    assert len(folds) == 4
    assert len(transforms) == 6


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Dense(5), nn.Dense(5, bias=False)], (4, 5)),
        ([nn.Conv2d(5, 1), nn.Conv2d(5, 1, bias=False)], (1, 1, 4, 5)),
    ],
    ids=["dense", "conv2d"],
)
@pytest.mark.parametrize("step", [1, -1])
def test_layers_that_share_weights_but_not_the_bias_do_not_share_what_is_prepared(layers, shape, step):
    rng = np.random.default_rng(0)
    parameters = {"weight": rng.normal(size=shape), "bias": rng.normal(size=5)}
    x, call = rng.normal(size=(3, 2, 2, 4)), call_with(parameters)
    found = sum(layer(nn.Scope(call), x) for layer in layers[::step])
    np.testing.assert_allclose(found, 2 * x @ parameters["weight"].reshape(4, 5) + parameters["bias"], rtol=1e-12)


def test_normalizations_that_share_weights_but_not_epsilon_do_not_share_what_is_prepared():
    steep, flat = (nn.Sequential(nn.Conv2d(8, 3), nn.BatchNorm(epsilon=epsilon)) for epsilon in (1e-5, 3.0))
    parameters, running = weights_for(steep, IMAGES, np.float64)
    x, call = np.random.default_rng(1).normal(size=IMAGES), call_with(parameters, running)
    for model in (steep, flat):
        expected = apart(model, parameters, running, x)
        np.testing.assert_allclose(model(nn.Scope(call), x), expected, rtol=0, atol=1e-12)


def test_a_pass_over_a_data_set_folds_once(monkeypatch):
    folds = count_calls(monkeypatch, nn.BatchNorm, "folded")
    monkeypatch.setattr(evaluation, "MAX_ROWS", 2)
    data = np.random.default_rng(1).normal(size=(8, 6, 6, 2)).astype(np.float32), np.arange(8) % 3
    layers = nn.Conv2d(4, 3), nn.BatchNorm(), nn.GlobalAveragePool(), nn.Dense(3)
    model = dbp.fit(
        model=layers, loss="cross_entropy", data=data, optimizer=dbp.optim.SGD(0.1), epochs=1, batch_size=8, quiet=True
    )
    for use in (lambda: model.evaluate(data), lambda: model.predict(data[0])):
        folds.clear()
        use()
        assert len(folds) == 1
    first = model.predict(data[0])
    model.weights["conv2d_1/weight"] = np.zeros((3, 3, 2, 4), np.float32)
    assert abs(model.predict(data[0]) - first).max() > 0

"""Every layer: by closed form or a plain loop, its derivatives, its mistakes, its config, and trained on ranks."""

import dataclasses
import itertools
import re
import tomllib

import h5py
import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.config.toml import settings_from, table_from, to_toml
from dbp.cost.objective import Objective, Shard
from dbp.errors import UserError
from dbp.nn.layers.containers import Layer
from dbp.parallel import Layout, OneProcess, Shards
from tests.autodiff.test_primitives_second_order import smooth_gradient
from tests.jobs import ROOT, dbp, digest, mpirun

RNG = np.random.default_rng(0)
DRAW = nn.Draw(seed=3, step=5, shard=1)


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def start(model, x, dtype="float64"):
    """Parameters away from the ones and zeros that some begin with, and running moments."""

    def with_a_parameter(scope, x):
        scope.parameter("unused", (1,))
        return model(scope, x)

    initial = nn.initial_parameters(with_a_parameter, x, 0, dtype)
    parameters, running = initial.parameters, initial.running
    del parameters["unused"]
    rng = np.random.default_rng(1)
    for array in parameters.values():
        array += 0.3 * rng.standard_normal(array.shape).astype(dtype)
    for moments in running.values():
        moments.mean += rng.standard_normal(moments.mean.shape).astype(dtype)
        moments.variance += rng.random(moments.variance.shape).astype(dtype)
    return parameters, running


def run(model, x, draw=None):
    """The model's parameters and outputs."""
    parameters, running = start(model, x)
    return parameters, model(nn.use(parameters, running, draw), x)


# --- all layers -------------------------------------------------------------------------------------

CASES = {
    "dense": (nn.Dense(3, "tanh"), (4,)),
    "dense relu": (nn.Dense(3, "relu", bias=False), (2, 4)),
    "activation": (nn.Activation("silu"), (4,)),
    "flatten": (nn.Flatten(), (2, 3)),
    "reshape": (nn.Reshape((3, 2)), (6,)),
    "conv1d": (nn.Conv1d(4, 3, "tanh", stride=2, padding="same", dilation=2, groups=2), (7, 2)),
    "conv1d relu": (nn.Conv1d(3, 2, "relu", padding=1, bias=False), (5, 2)),
    "conv2d": (nn.Conv2d(4, (3, 2), "gelu", stride=(2, 1), padding="same", dilation=(1, 2), groups=2), (5, 4, 2)),
    "conv2d relu": (nn.Conv2d(3, 2, "relu", padding=1, bias=False), (4, 3, 2)),
    "conv_transpose2d": (nn.ConvTranspose2d(3, (3, 2), "tanh", stride=2, padding=1), (3, 3, 2)),
    "max_pool1d": (nn.MaxPool1d(3, 2, "same"), (6, 2)),
    "max_pool2d": (nn.MaxPool2d((3, 2), 2, 1), (5, 4, 2)),
    "average_pool1d": (nn.AveragePool1d(3, 2, "same"), (6, 2)),
    "average_pool2d": (nn.AveragePool2d((3, 2), 2, 1), (5, 4, 2)),
    "global_average_pool": (nn.GlobalAveragePool(), (3, 2, 2)),
    "global_max_pool": (nn.GlobalMaxPool(), (3, 2, 2)),
    "batch_norm": (nn.BatchNorm(), (3, 2)),
    "layer_norm": (nn.LayerNorm(), (3, 4)),
    "group_norm": (nn.GroupNorm(2), (3, 4)),
    "dropout": (nn.Dropout(0.4), (6,)),
    "embedding": (nn.Embedding(4, 3), (5,)),
    "position": (nn.Position(), (3, 2)),
    "gru": (nn.GRU(3), (4, 2)),
    "gru last": (nn.GRU(3, sequences=False), (4, 2)),
    "lstm": (nn.LSTM(3), (4, 2)),
    "lstm last": (nn.LSTM(3, sequences=False), (4, 2)),
    "attention": (nn.Attention(2), (3, 4)),
    "attention causal": (nn.Attention(2, causal=True, bias=False), (3, 4)),
    "residual": (nn.Residual((nn.Dense(4, "tanh"), nn.Dense(4)), activation="softplus"), (4,)),
    "recompute": (nn.Recompute((nn.Dense(4, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Dense(3))), (4,)),
    "residual shortcut": (nn.Residual((nn.Dense(3), nn.BatchNorm()), (nn.Dense(3),)), (4,)),
}


def inputs_of(name, dtype="float64"):
    layer, shape = CASES[name]
    if isinstance(layer, nn.Embedding):
        return layer, np.random.default_rng(2).integers(0, layer.entries, (3, *shape))
    return layer, inputs(3, *shape, seed=2).astype(dtype)


def as_function(name, draw):
    """The layer as a function of its parameters and, but for whole numbers, its inputs; with a point."""
    layer, x = inputs_of(name)
    parameters, running = start(layer, x)
    points = [*parameters.values()] if isinstance(layer, nn.Embedding) else [*parameters.values(), x]

    def function(*arrays):
        found = dict(zip(parameters, arrays, strict=False))
        return layer(nn.use(found, running, draw), arrays[-1] if len(arrays) > len(parameters) else x)

    return function, points


def test_every_kind_has_a_case():
    assert {layer.kind for layer, _ in CASES.values()} == set(nn.LAYERS)


@pytest.mark.parametrize("draw", [None, DRAW], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_both_orders(name, draw):
    function, points = as_function(name, draw)
    ad.check_derivatives(function, *points)
    ad.check_derivatives(smooth_gradient(function), *points, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_types_and_shapes_are_kept(name, dtype):
    layer, x = inputs_of(name, dtype)
    parameters, running = start(layer, x, dtype)
    leaves = {path: ad.Tensor(array) for path, array in parameters.items()}
    if not isinstance(layer, nn.Embedding):
        leaves["x"] = ad.Tensor(x)
    call = nn.call_with(leaves, running, DRAW)
    output = layer(nn.Scope(call), leaves.get("x", x))
    assert output.dtype == dtype
    for leaf, g in zip(
        leaves.values(), ad.pullback(output, np.ones(output.shape, dtype), [*leaves.values()]), strict=True
    ):
        assert (g.dtype, g.shape) == (dtype, leaf.shape)
    for moments in call.observed.values():
        assert moments.mean.dtype == moments.variance.dtype == dtype
    evaluated = layer(nn.use(parameters, running), x)
    assert (type(evaluated), evaluated.dtype, evaluated.shape) == (np.ndarray, dtype, output.shape)


@pytest.mark.parametrize("name", CASES)
def test_examples_do_not_touch_each_other(name):
    """But for the moments of batch normalization in training."""
    layer, x = inputs_of(name)
    parameters, running = start(layer, x)
    whole = layer(nn.use(parameters, running), x)
    for i in range(len(x)):
        np.testing.assert_allclose(
            layer(nn.use(parameters, running), x[i : i + 1])[0], whole[i], rtol=1e-12, atol=1e-14
        )


# --- convolutions -----------------------------------------------------------------------------------


def convolved(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """Position by position, group by group."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape, strict=False)]
    starts = [range(0, n - span + 1, s) for n, span, s in zip(x.shape[1:3], spans, stride, strict=True)]
    taken, made = w.shape[2], w.shape[3] // groups
    y = np.zeros((len(x), *map(len, starts), w.shape[3]))
    for (p, row), (q, column) in itertools.product(enumerate(starts[0]), enumerate(starts[1])):
        patch = x[:, row : row + spans[0] : dilation[0], column : column + spans[1] : dilation[1]]
        for group in range(groups):
            to = slice(group * made, (group + 1) * made)
            part = patch[..., group * taken : (group + 1) * taken]
            y[:, p, q, to] = np.einsum("nijc,ijck->nk", part, w[..., to])
    return y


@pytest.mark.parametrize(
    ("settings", "zeros"),
    [
        ({"size": 3}, ((0, 0), (0, 0))),
        ({"size": (2, 4)}, ((0, 0), (0, 0))),
        ({"size": 3, "padding": 2}, ((2, 2), (2, 2))),
        ({"size": 3, "padding": "same"}, ((1, 1), (1, 1))),
        ({"size": (2, 4), "padding": "same"}, ((0, 1), (1, 2))),
        ({"size": 3, "padding": "same", "stride": 2}, ((1, 1), (0, 1))),
        ({"size": 2, "padding": "same", "stride": (3, 4)}, ((0, 1), (0, 0))),
        ({"size": 1, "stride": 2, "padding": "same"}, ((0, 0), (0, 0))),
        ({"size": (3, 2), "stride": (1, 2), "padding": 1, "dilation": (2, 3)}, ((1, 1), (1, 1))),
        ({"size": 3, "padding": "same", "dilation": (3, 2)}, ((3, 3), (2, 2))),
        ({"size": 3, "groups": 2}, ((0, 0), (0, 0))),
        ({"size": 3, "groups": 4, "padding": 1, "stride": 2}, ((1, 1), (1, 1))),
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv2d_by_a_plain_loop(settings, zeros, bias):
    x = inputs(2, 7, 6, 4)
    layer = nn.Conv2d(8, activation="tanh", bias=bias, **settings)
    parameters, y = run(layer, x)
    pairs = {n: (v, v) if isinstance(v, int) else v for n, v in settings.items() if n in ("stride", "dilation")}
    z = convolved(x, parameters["weight"], padding=zeros, groups=settings.get("groups", 1), **pairs)
    np.testing.assert_allclose(y, np.tanh(z + parameters.get("bias", 0)), atol=1e-12)
    if settings.get("padding") == "same":
        stride = pairs.get("stride", (1, 1))
        assert y.shape[1:3] == (-(-7 // stride[0]), -(-6 // stride[1]))


@pytest.mark.parametrize(
    ("settings", "zeros"),
    [
        ({"size": 3}, (0, 0)),
        ({"size": 4, "padding": "same"}, (1, 2)),
        ({"size": 3, "padding": 2, "stride": 2}, (2, 2)),
        ({"size": 3, "padding": "same", "stride": 2}, (1, 1)),
        ({"size": 2, "padding": 1, "dilation": 3, "groups": 2}, (1, 1)),
        ({"size": 7, "groups": 4}, (0, 0)),
    ],
    ids=str,
)
def test_conv1d_by_a_plain_loop(settings, zeros):
    x = inputs(2, 7, 4)
    parameters, y = run(nn.Conv1d(4, activation="softplus", **settings), x)
    stride, dilation = (1, settings.get("stride", 1)), (1, settings.get("dilation", 1))
    w, groups = parameters["weight"], settings.get("groups", 1)
    z = convolved(x[:, None], w, stride, ((0, 0), zeros), dilation, groups)[:, 0]
    np.testing.assert_allclose(y, np.log1p(np.exp(z + parameters["bias"])), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "height", "width"),
    [
        ({"size": 3}, 5, 6),
        ({"size": (2, 4), "stride": (1, 3)}, 4, 13),
        ({"size": 3, "stride": 2, "padding": 1}, 5, 7),
        ({"size": 3, "stride": 2, "padding": "same"}, 6, 8),
        ({"size": 4, "stride": 2, "padding": "same"}, 6, 8),
        ({"size": 2, "stride": 3, "padding": "same"}, 9, 12),
        ({"size": 5, "padding": "same"}, 3, 4),
    ],
    ids=str,
)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(settings, height, width):
    x = inputs(2, 3, 4, 5)
    transposed, forward = nn.ConvTranspose2d(6, bias=False, **settings), nn.Conv2d(5, bias=False, **settings)
    parameters, y = run(transposed, x)
    assert y.shape == (2, height, width, 6)
    other = inputs(*y.shape, seed=1)
    moved = forward(nn.use(parameters), other)
    assert moved.shape == x.shape
    assert np.sum(moved * x) == pytest.approx(np.sum(other * y), rel=1e-12)


def test_conv_transpose2d_adds_its_bias_and_activates():
    x = inputs(1, 2, 2, 3)
    parameters, y = run(nn.ConvTranspose2d(2, 2, "tanh", stride=2), x)
    tiles = np.einsum("npqc,ijkc->npiqjk", x, parameters["weight"]).reshape(1, 4, 4, 2)
    np.testing.assert_allclose(y, np.tanh(tiles + parameters["bias"]))


# --- pooling ----------------------------------------------------------------------------------------


def pooled(x, size, stride, zeros, function):
    """The function of the places inside the image under every window."""
    starts = [range(-b, n + a - k + 1, s) for n, k, s, (b, a) in zip(x.shape[1:3], size, stride, zeros, strict=True)]
    rows = [
        [function(x[:, max(0, i) : i + size[0], max(0, j) : j + size[1]], axis=(1, 2)) for j in starts[1]]
        for i in starts[0]
    ]
    return np.transpose(rows, (2, 0, 1, 3))


POOLS = [
    ({"size": 2}, (2, 2), (2, 2), ((0, 0), (0, 0))),
    ({"size": (2, 3)}, (2, 3), (2, 3), ((0, 0), (0, 0))),
    ({"size": 3, "stride": 1, "padding": "same"}, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ({"size": 3, "stride": (2, 1), "padding": 1}, (3, 3), (2, 1), ((1, 1), (1, 1))),
    ({"size": 2, "padding": "same"}, (2, 2), (2, 2), ((0, 1), (0, 0))),
    ({"size": 4, "stride": 3, "padding": "same"}, (4, 4), (3, 3), ((1, 2), (0, 1))),
]
FUNCTIONS = [(nn.MaxPool1d, nn.MaxPool2d, np.max), (nn.AveragePool1d, nn.AveragePool2d, np.mean)]


@pytest.mark.parametrize(("settings", "size", "stride", "zeros"), POOLS, ids=str)
@pytest.mark.parametrize(("_one", "two", "function"), FUNCTIONS)
def test_pooling_of_images(_one, two, function, settings, size, stride, zeros):
    x = inputs(2, 7, 6, 3) - 4  # so that zeros would be the largest
    np.testing.assert_allclose(run(two(**settings), x)[1], pooled(x, size, stride, zeros, function))


@pytest.mark.parametrize(
    ("settings", "size", "stride", "zeros"),
    [
        ({"size": 2}, 2, 2, (0, 0)),
        ({"size": 3, "stride": 1, "padding": "same"}, 3, 1, (1, 1)),
        ({"size": 4, "stride": 3, "padding": 2}, 4, 3, (2, 2)),
        ({"size": 2, "padding": "same"}, 2, 2, (0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize(("one", "_two", "function"), FUNCTIONS)
def test_pooling_of_sequences(one, _two, function, settings, size, stride, zeros):
    x = inputs(2, 7, 3) - 4
    expected = pooled(x[:, None], (1, size), (1, stride), ((0, 0), zeros), function)[:, 0]
    np.testing.assert_allclose(run(one(**settings), x)[1], expected)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (2, 3, 2, 3)])
def test_global_pooling(shape):
    x = inputs(2, *shape)
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(run(nn.GlobalAveragePool(), x)[1], x.mean(axes))
    np.testing.assert_array_equal(run(nn.GlobalMaxPool(), x)[1], x.max(axes))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("draw", [None, DRAW])
def test_a_convolution_fused_with_its_pooling_gives_the_same(activation, size, draw):
    x = inputs(3, 9, 8, 2)
    layers = nn.Conv2d(4, 3, activation, padding="same"), nn.MaxPool2d(size)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dense(2))
    parameters, _ = start(model, x)

    def one_by_one(scope, x):
        for name, layer in zip(model.names, model.layers, strict=True):
            x = layer(scope.inside(name), x)
        return x

    results, neurons = [], []
    for function, watch in ((model, False), (model, True), (one_by_one, False), (one_by_one, True)):
        leaves = {name: ad.Tensor(array) for name, array in (parameters | {"x": x}).items()}
        call = nn.call_with(leaves, {}, draw, watch=watch)
        output = function(nn.Scope(call), leaves["x"])
        results.append([output.value, *ad.pullback(output, np.ones(output.shape), [*leaves.values()])])
        neurons.append({path: [z.shape for z in zs] for path, zs in call.neurons.items()})
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    assert neurons == [{}, {"conv2d_1": [(3, 9, 8, 4)], "dense_1": [(3, 2)]}] * 2


# --- normalization ----------------------------------------------------------------------------------


def objective_of(model, loss, x, y, weights=None, shards=1, seed=0):
    """The objective on these examples, its flat weights, and its running moments."""
    initial = nn.initial_parameters(model, x, 0, "float64")
    parameters, running = initial.parameters, initial.running
    layout = Layout.of(parameters)
    objective = Objective(model, loss, layout, OneProcess(), Shards(shards), np.dtype("float64"), running, seed)
    objective.batch = in_shards(x, y, weights, shards)
    return objective, layout.flatten(parameters, "float64"), running


def in_shards(x, y, weights, shards):
    runs = [Shards(shards).of_batch(len(x), n) for n in range(shards)]
    rows = [slice(run.start, run.stop) for run in runs]
    return [Shard(n, x[r], y[r], None if weights is None else weights[r]) for n, r in enumerate(rows)]


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_running_moments_are_those_of_whole_mini_batches(shards, decay):
    """Whatever the number of shards, some of one example or empty; and evaluation takes them."""
    model = nn.Sequential(nn.BatchNorm(decay, epsilon=1e-3), nn.Flatten(), nn.Dense(2))
    steps = [3 + RNG.standard_normal((11, 4, 3)) * [1, 5, 0.1] for _ in range(4)]
    y = RNG.integers(0, 2, 11)
    objective, w, running = objective_of(model, nn.CrossEntropy(), steps[0], y, shards=shards)
    mean, variance = np.zeros(3), np.ones(3)
    for x in steps:
        objective.batch = in_shards(x, y, None, shards)
        nn.update_all(running, objective.value_and_gradient(w).moments)
        mean = decay * mean + (1 - decay) * x.mean(axis=(0, 1))
        variance = decay * variance + (1 - decay) * x.var(axis=(0, 1), ddof=1)
    moments = running["batch_norm_1/"]
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-12)

    parameters = {name: view + 0.5 for name, view in objective.layout.views(w).items()}
    x = steps[-1]
    evaluated = model.layers[0](nn.use(parameters, running).inside("batch_norm_1"), x)
    scale, shift = parameters["batch_norm_1/scale"], parameters["batch_norm_1/shift"]
    np.testing.assert_allclose(evaluated, (x - mean) / np.sqrt(variance + 1e-3) * scale + shift, rtol=1e-11)


def test_batch_norm_in_training_takes_the_moments_of_the_shard():
    x = 2 + 3 * inputs(5, 4, 3)
    parameters, y = run(nn.BatchNorm(), x, DRAW)
    expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"])


def test_one_number_a_channel_leaves_the_running_moments_alone():
    model = nn.Sequential(nn.BatchNorm(), nn.Dense(2))
    objective, w, running = objective_of(model, nn.CrossEntropy(), inputs(1, 3), np.array([1]))
    nn.update_all(running, objective.value_and_gradient(w).moments)
    np.testing.assert_array_equal(running["batch_norm_1/"].mean, np.zeros(3))
    np.testing.assert_array_equal(running["batch_norm_1/"].variance, np.ones(3))


def test_several_running_moments_do_not_mix():
    x = inputs(6, 4) + 2
    model = nn.Sequential(nn.BatchNorm(0.5), nn.Residual((nn.Dense(3), nn.BatchNorm(0.0)), (nn.Dense(3),)))
    objective, w, running = objective_of(model, nn.CrossEntropy(), x, np.arange(6) % 3, shards=1)
    nn.update_all(running, objective.value_and_gradient(w).moments)
    assert list(running) == ["batch_norm_1/", "residual_1/batch_norm_1/"]
    weights = objective.layout.views(w)
    first = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    z = first @ weights["residual_1/dense_1/weight"] + weights["residual_1/dense_1/bias"]
    np.testing.assert_allclose(running["batch_norm_1/"].mean, x.mean(0) / 2)
    np.testing.assert_allclose(running["residual_1/batch_norm_1/"].mean, z.mean(0), atol=1e-15)
    np.testing.assert_allclose(running["residual_1/batch_norm_1/"].variance, z.var(0, ddof=1))
    names = ["running_mean", "running_variance"]
    assert list(nn.named_arrays(running)) == [path + name for path in running for name in names]


def test_one_place_of_running_moments_used_twice_is_refused():
    def model(scope, x):
        layer, inner = nn.BatchNorm(), scope.inside("norm")
        return layer(inner, layer(inner, x))

    x = inputs(4, 3)
    parameters, running = start(model, x)
    with pytest.raises(UserError, match="running moments of 'norm/' are used twice in one pass"):
        model(nn.use(parameters, running, DRAW), x)


def test_layer_norm_by_closed_form():
    x = inputs(3, 5, 4)
    parameters, y = run(nn.LayerNorm(epsilon=0.1), x)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"])


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("places", [(), (5,), (3, 4)])
def test_group_norm_by_closed_form(groups, places):
    x = inputs(3, *places, 6)
    parameters, y = run(nn.GroupNorm(groups, epsilon=0.1), x)
    expected = np.empty_like(x)
    for example, group in itertools.product(range(3), range(groups)):
        part = (example, ..., slice(group * 6 // groups, (group + 1) * 6 // groups))
        expected[part] = (x[part] - x[part].mean()) / np.sqrt(x[part].var() + 0.1)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"], atol=1e-14)


# --- dropout ----------------------------------------------------------------------------------------


def masks(draw, rate=0.3):
    """What two layers, one of them called twice, make of ones."""
    layer, scope = nn.Dropout(rate), nn.use({}, {}, draw)
    one, other = scope.inside("dropout_1"), scope.inside("dropout_2")
    return [layer(inner, np.ones((200, 50))) for inner in (one, other, one)]


def test_dropout_keeps_the_mean():
    for mask in masks(DRAW):
        assert set(np.unique(mask)) == {0, 1 / 0.7}
        assert abs(np.mean(mask == 0) - 0.3) < 5 * np.sqrt(0.21 / mask.size)
        assert mask.mean() == pytest.approx(1, abs=0.04)


def test_dropout_is_none_outside_of_training_and_at_rate_zero():
    x = inputs(4, 3)
    assert nn.Dropout(0.5)(nn.use({}), x) is x
    assert nn.Dropout(0)(nn.use({}, {}, DRAW), x) is x


def test_dropout_depends_on_seed_step_shard_place_and_call_alone():
    for one, other in zip(masks(DRAW), masks(nn.Draw(3, 5, 1)), strict=True):
        np.testing.assert_array_equal(one, other)
    draws = [DRAW, *(DRAW._replace(**{name: 7}) for name in nn.Draw._fields)]
    different = [mask for draw in draws for mask in masks(draw)]
    for one, other in itertools.combinations(different, 2):
        assert 0.3 < np.mean(one != other) < 0.54  # 2 x 0.3 x 0.7 for independent ones


def test_a_shard_draws_the_same_whoever_computes_it():
    """Shard by shard, the losses are those of the whole mini-batch's shards; another step draws anew."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Dense(3), nn.Dropout(0.2))
    x, y = inputs(12, 4), RNG.integers(0, 3, 12)
    objective, w, _ = objective_of(model, nn.CrossEntropy(), x, y, shards=4, seed=8)
    batch = objective.batch
    whole = objective.value_and_gradient(w).cost
    empty = [Shard(s.number, s.inputs[:0], s.targets[:0], None) for s in batch]
    parts = []
    for i in range(4):
        objective.batch = [s if s.number == i else e for s, e in zip(batch, empty, strict=True)]
        parts.append(objective.value_and_gradient(w).totals.loss)
    assert sum(parts) / 12 == pytest.approx(whole, rel=1e-14)
    objective.batch, objective.step = batch, 1
    assert objective.value_and_gradient(w).cost != whole
    objective.step = 0
    assert objective.value_and_gradient(w).cost == whole


# --- sequences --------------------------------------------------------------------------------------


def test_embedding_gives_rows():
    numbers = np.array([[0, 3, 3], [2, 0, 1]])
    parameters, y = run(nn.Embedding(4, 5), numbers)
    np.testing.assert_array_equal(y, parameters["weight"][numbers])
    np.testing.assert_array_equal(nn.Embedding(4, 5)(nn.use(parameters), numbers.astype(np.float32)), y)


def test_gradients_of_repeated_entries_add_up():
    numbers, g = np.array([[0, 3, 3], [2, 0, 3]]), inputs(2, 3, 5)
    table = ad.Tensor(np.zeros((4, 5)))
    y = nn.Embedding(4, 5)(nn.use({"weight": table}), numbers)
    (gradient,) = ad.pullback(y, g, [table])
    expected = [g[0, 0] + g[1, 1], 0 * g[0, 0], g[1, 0], g[0, 1] + g[0, 2] + g[1, 2]]
    np.testing.assert_allclose(gradient, expected)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[0, 4]], "whole numbers from 0 to 3, but its inputs contain 4"),
        ([[0, -1]], "from 0 to 3, but its inputs contain -1"),
        ([[0.0, 0.5]], "from 0 to 3, but its inputs contain 0.5; are the inputs scaled"),
        ([[np.nan, 1.0]], "contain nan"),
        ([[1e30, 1.0]], r"contain 1e\+30"),
    ],
)
def test_embedding_names_entries_that_there_are_not(numbers, message):
    with pytest.raises(UserError, match=message):
        nn.Embedding(4, 5)(nn.use({"weight": np.zeros((4, 5))}), np.array(numbers))


def test_embedding_refuses_what_its_type_cannot_count():
    with pytest.raises(UserError, match="entries must be at most 16777216 in float32"):
        run(nn.Embedding(2**24 + 1, 1, "zeros"), np.zeros((1, 1), np.float32))
    with pytest.raises(
        UserError, match="by which nothing can be differentiated, but a layer before it made floats; put"
    ):
        nn.Embedding(4, 5)(nn.use({"weight": np.zeros((4, 5))}), ad.Tensor(np.zeros((1, 1))))


def test_position_adds_a_row_a_place():
    x = inputs(3, 4, 2)
    parameters, y = run(nn.Position(), x)
    np.testing.assert_array_equal(y, x + parameters["weight"])


def logistic(x):
    return 1 / (1 + np.exp(-x))


def gru_states(x, p, units):
    h, states = np.zeros((len(x), units)), []
    w, u = (np.split(p[name], 3, axis=1) for name in ("weight", "recurrent"))
    b = np.split(p["bias"], 3)
    for t in range(x.shape[1]):
        r, z = (logistic(x[:, t] @ w[k] + b[k] + h @ u[k]) for k in (0, 1))
        c = np.tanh(x[:, t] @ w[2] + b[2] + r * (h @ u[2] + p["candidate_bias"]))
        h = (1 - z) * c + z * h
        states.append(h)
    return np.stack(states, axis=1)


def lstm_states(x, p, units):
    h, m, states = np.zeros((len(x), units)), np.zeros((len(x), units)), []
    w, u = (np.split(p[name], 4, axis=1) for name in ("weight", "recurrent"))
    b = np.split(p["bias"], 4)
    for t in range(x.shape[1]):
        i, f, c, o = (x[:, t] @ w[k] + b[k] + h @ u[k] for k in range(4))
        m = logistic(f) * m + logistic(i) * np.tanh(c)
        h = logistic(o) * np.tanh(m)
        states.append(h)
    return np.stack(states, axis=1)


@pytest.mark.parametrize(("layer", "loop"), [(nn.GRU, gru_states), (nn.LSTM, lstm_states)])
@pytest.mark.parametrize("length", [1, 5])
def test_recurrent_layers_step_by_step(layer, loop, length):
    x = inputs(3, length, 2)
    parameters, y = run(layer(4), x)
    expected = loop(x, parameters, 4)
    np.testing.assert_allclose(y, expected, rtol=1e-10)
    np.testing.assert_allclose(layer(4, sequences=False)(nn.use(parameters), x), expected[:, -1], rtol=1e-10)
    call = nn.call_with(parameters, watch=True)
    layer(4)(nn.Scope(call), x)
    assert [z.shape for z in call.neurons[""]] == [(3, 4)] * length


def attended(x, p, heads, causal):
    """Head by head and place by place."""
    q, k, v = (x @ p[f"{name}/weight"] + p.get(f"{name}/bias", 0) for name in ("query", "key", "value"))
    n, length, channels = x.shape
    width, gathered = channels // heads, np.zeros_like(x)
    for example, head, place in itertools.product(range(n), range(heads), range(length)):
        own = slice(head * width, (head + 1) * width)
        seen = slice(0, place + 1 if causal else length)
        match = np.exp(k[example, seen, own] @ q[example, place, own] / np.sqrt(width))
        gathered[example, place, own] = (match / match.sum()) @ v[example, seen, own]
    return gathered @ p["output/weight"] + p.get("output/bias", 0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, False), (6, True)])
def test_attention_by_a_plain_loop(heads, bias, causal):
    x = inputs(2, 5, 6)
    parameters, y = run(nn.Attention(heads, causal, bias=bias), x)
    np.testing.assert_allclose(y, attended(x, parameters, heads, causal), rtol=1e-9)


def test_causal_attention_sees_nothing_later():
    x = inputs(2, 6, 4)
    parameters, y = run(nn.Attention(2, causal=True), x)
    changed = x.copy()
    changed[:, 4:] += 1e3
    again = nn.Attention(2, causal=True)(nn.use(parameters), changed)
    np.testing.assert_array_equal(again[:, :4], y[:, :4])
    assert np.abs(again[:, 4:] - y[:, 4:]).min() > 1e-3


def test_attention_turns_with_a_permutation_of_places():
    x, order = inputs(2, 6, 4), np.random.default_rng(4).permutation(6)
    layer = nn.Attention(2)
    parameters, y = run(layer, x)
    np.testing.assert_allclose(layer(nn.use(parameters), x[:, order]), y[:, order], rtol=1e-10)


# --- layers of layers, and shared parameters --------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("draw", [None, DRAW])
def test_recurrent_layers_of_an_empty_sequence(layer, draw):
    x = np.zeros((3, 0, 2))
    for sequences, shape in ((True, (3, 0, 4)), (False, (3, 4))):
        parameters, y = run(layer(4, sequences=sequences), x, draw)
        np.testing.assert_array_equal(y, np.zeros(shape))
        assert list(parameters)[:2] == ["weight", "bias"]


def test_residual_with_and_without_shortcut():
    x = inputs(4, 3)
    p, y = run(nn.Residual((nn.Dense(5, "tanh"), nn.Dense(3)), activation="sigmoid"), x)
    inner = np.tanh(x @ p["dense_1/weight"] + p["dense_1/bias"]) @ p["dense_2/weight"] + p["dense_2/bias"]
    np.testing.assert_allclose(y, logistic(x + inner))
    p, y = run(nn.Residual([nn.Dense(5)], [nn.Dense(5, bias=False), nn.Activation("tanh")]), x)
    straight = np.tanh(x @ p["shortcut/dense_1/weight"])
    np.testing.assert_allclose(y, x @ p["dense_1/weight"] + p["dense_1/bias"] + straight)
    assert nn.Residual([nn.Dense(5)]) == nn.Residual((nn.Dense(5),))


@pytest.mark.parametrize("shards", [1, 3])
def test_recomputed_layers_give_the_same_bits(shards):
    """With random numbers and running moments inside, as the layers without it under the same names."""
    inside = nn.Dense(5, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Recompute((nn.Dense(4), nn.Dropout(0.2)))
    kept = nn.Dense(5, "tanh"), nn.Dropout(0.3), nn.BatchNorm()

    def plain(scope, x):
        inner = scope.inside("recompute_1")
        x = nn.Sequential(*kept)(inner, x)
        x = nn.Sequential(nn.Dense(4), nn.Dropout(0.2))(inner.inside("recompute_1"), x)
        return nn.Dense(3)(scope.inside("dense_1"), x)

    x, y = inputs(9, 4), np.arange(9) % 3
    found = []
    for model in (nn.Sequential(nn.Recompute(inside), nn.Dense(3)), plain):
        objective, w, running = objective_of(model, nn.CrossEntropy(), x, y, shards=shards)
        result = objective.value_and_gradient(w)
        nn.update_all(running, result.moments)
        found.append([result.cost, result.gradient.copy(), *nn.named_arrays(running).values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_used_twice_shares_its_parameters():
    def model(scope, x):
        layer, inner = nn.Dense(3, "tanh"), scope.inside("shared")
        return layer(inner, layer(inner, x))

    x, y = inputs(5, 3), inputs(5, 3, seed=1)
    objective, w, _ = objective_of(model, nn.MeanSquaredError(), x, y, shards=2)
    assert list(objective.layout.shapes) == ["shared/weight", "shared/bias"]
    apart = nn.Sequential(nn.Dense(3, "tanh"), nn.Dense(3, "tanh"))
    other, _, _ = objective_of(apart, nn.MeanSquaredError(), x, y, shards=2)
    one, both = objective.value_and_gradient(w), other.value_and_gradient(np.concatenate([w, w]))
    assert one.cost == pytest.approx(both.cost, rel=1e-14)
    np.testing.assert_allclose(one.gradient, both.gradient[:12] + both.gradient[12:], rtol=1e-11)


def test_an_autoencoder_with_tied_weights():
    def tied(scope, x):
        w = scope.parameter("weight", (6, 2))
        return ad.tanh(x @ w) @ ad.transpose(scope.parameter("weight", (6, 2)))

    x = inputs(7, 6)
    objective, flat, _ = objective_of(tied, nn.MeanSquaredError(), x, x, shards=3)
    w = flat.reshape(6, 2)
    h = np.tanh(x @ w)
    error = 2 * (h @ w.T - x) / x.size
    expected = error.T @ h + x.T @ ((error @ w) * (1 - h * h))
    np.testing.assert_allclose(objective.value_and_gradient(flat).gradient, expected.ravel(), rtol=1e-10)


# --- masks ------------------------------------------------------------------------------------------

SEQUENCE_LOSSES = [
    (nn.CrossEntropy(), RNG.integers(0, 3, (6, 5)), 3),
    (nn.CrossEntropy(0.1), RNG.dirichlet(np.ones(3), (6, 5)), 3),
    (nn.KullbackLeibler(), RNG.dirichlet(np.ones(3), (6, 5)), 3),
    (nn.Hinge(0.7), RNG.integers(0, 3, (6, 5)), 3),
    (nn.BinaryCrossEntropy(), RNG.integers(0, 2, (6, 5, 2)).astype(float), 2),
    (nn.MeanSquaredError(), RNG.standard_normal((6, 5, 2)), 2),
    (nn.MeanAbsoluteError(), RNG.standard_normal((6, 5, 2)), 2),
    (nn.Huber(0.5), RNG.standard_normal((6, 5, 2)), 2),
]
MASK = RNG.random((6, 5)) < 0.6
MASK[2] = False  # an example of which nothing counts


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize(("loss", "targets", "units"), SEQUENCE_LOSSES, ids=lambda v: getattr(v, "kind", ""))
def test_masked_places_do_not_count(loss, targets, units, shards):
    """Cost, metrics and gradient are those of the kept places alone, as examples of their own."""
    model, x = nn.Dense(units), inputs(6, 5, 4)
    masked, w, _ = objective_of(model, loss, x, targets, MASK.astype(float), shards)
    kept, _, _ = objective_of(model, loss, x[MASK], targets[MASK])
    check_same(masked, kept, w)


@pytest.mark.parametrize("shards", [1, 3])
def test_places_may_have_any_weights(shards):
    loss, targets, units = SEQUENCE_LOSSES[0]
    model, x, weights = nn.Dense(units), inputs(6, 5, 4), RNG.random((6, 5))
    weighted, w, _ = objective_of(model, loss, x, targets, weights, shards)
    alone, _, _ = objective_of(model, loss, x.reshape(30, 4), targets.reshape(30), weights.reshape(30))
    check_same(weighted, alone, w)
    of_examples, _, _ = objective_of(model, loss, x, targets, weights[:, 0], shards)
    repeated, _, _ = objective_of(model, loss, x, targets, np.repeat(weights[:, :1], 5, axis=1), shards)
    check_same(of_examples, repeated, w)


def test_outputs_may_have_weights_of_their_own():
    model, x, y, weights = nn.Dense(3), inputs(6, 4), inputs(6, 3, seed=1), RNG.random((6, 3))
    objective, w, _ = objective_of(model, nn.MeanSquaredError(), x, y, weights, shards=2)
    parameters = objective.layout.views(w)
    error = x @ parameters["weight"] + parameters["bias"] - y
    result = objective.value_and_gradient(w)
    assert result.cost == pytest.approx(np.sum(weights * error**2) / weights.sum())
    np.testing.assert_allclose(result.gradient[:12], (x.T @ (2 * weights * error / weights.sum())).ravel())


def check_same(one, other, w):
    a, b = one.value_and_gradient(w), other.value_and_gradient(w)
    names = one.loss.metrics
    assert a.totals.means(names) == pytest.approx(b.totals.means(names), rel=1e-12)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10, atol=1e-14)
    totals = one.evaluate(w, lambda number: [s for s in one.batch if s.number == number and len(s.inputs)])
    assert totals.means(names) == pytest.approx(b.totals.means(names), rel=1e-12)


# --- mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 3), "filters must be at least 1, but is 0"),
        (lambda: nn.Conv2d(4, 0), "size must be at least 1, but is 0"),
        (lambda: nn.Conv2d(4, (3, 0)), "size must be at least 1, but is 0"),
        (lambda: nn.Conv2d(4, (3, 3, 3)), r"size must be a whole number or two, but is \(3, 3, 3\)"),
        (lambda: nn.Conv2d(4, 3, stride=0), "stride must be at least 1, but is 0"),
        (lambda: nn.Conv2d(4, 3, dilation=(1, 0)), "dilation must be at least 1, but is 0"),
        (lambda: nn.Conv2d(4, 3, padding=-1), "padding must be at least 0, but is -1"),
        (lambda: nn.Conv2d(4, 3, padding="sam"), "unknown padding 'sam'; did you mean 'same'"),
        (lambda: nn.Conv2d(4, 3, groups=3), r"filters must be a multiple of groups \(3\), but are 4"),
        (lambda: nn.Conv2d(4, 3, "rellu"), "unknown activation 'rellu'; did you mean 'relu'"),
        (lambda: nn.Conv2d(4, 3, initializer="he_norm"), "unknown initializer 'he_norm'; did you mean 'he_normal'"),
        (lambda: nn.Conv1d(4, (3, 3)), r"size must be one whole number, but is \(3, 3\)"),
        (lambda: nn.Conv1d(4, 3, stride=-1), "stride must be at least 1, but is -1"),
        (lambda: nn.ConvTranspose2d(4, 3, padding="full"), "unknown padding 'full'; valid: same, valid"),
        (lambda: nn.ConvTranspose2d(4, 3, stride=0), "stride must be at least 1, but is 0"),
        (lambda: nn.MaxPool2d(0), "size must be at least 1, but is 0"),
        (lambda: nn.MaxPool2d(2, 0), "stride must be at least 1, but is 0"),
        (lambda: nn.AveragePool1d(2, padding="Same"), "unknown padding 'Same'; did you mean 'same'"),
        (lambda: nn.MaxPool2d(2, padding=2), "padding must be smaller than size, but is 2"),
        (lambda: nn.AveragePool2d((3, 1), padding=1), "padding must be smaller than size, but is 1"),
        (lambda: nn.AveragePool1d(2, padding=3), "padding must be smaller than size, but is 3"),
        (lambda: nn.BatchNorm(decay=1.0), "decay must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.BatchNorm(epsilon=0.0), "epsilon must be positive, but is 0.0"),
        (lambda: nn.LayerNorm(epsilon=-1.0), "epsilon must be positive, but is -1.0"),
        (lambda: nn.GroupNorm(0), "groups must be at least 1, but is 0"),
        (lambda: nn.Dropout(1.0), "rate must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.Dropout(-0.1), "rate must be at least 0 and below 1, but is -0.1"),
        (lambda: nn.Embedding(0, 2), "entries must be at least 1, but is 0"),
        (lambda: nn.Embedding(3, 0), "units must be at least 1, but is 0"),
        (lambda: nn.Position("norml"), "unknown initializer 'norml'; did you mean 'normal'"),
        (lambda: nn.GRU(0), "units must be at least 1, but is 0"),
        (lambda: nn.LSTM(2, recurrent_initializer="ortho"), "unknown initializer 'ortho'"),
        (lambda: nn.Attention(0), "heads must be at least 1, but is 0"),
        (lambda: nn.Reshape((3, 0)), r"shape must be positive lengths, but is \[3, 0\]"),
        (lambda: nn.Reshape(()), r"shape must be positive lengths, but is \[\]"),
        (lambda: nn.Activation("tahn"), "unknown activation 'tahn'; did you mean 'tanh'"),
        (lambda: nn.Residual(()), "at least one layer"),
        (lambda: nn.Residual(nn.Dense(3)), r"layers must be a list of layers, but is Dense\(units=3"),
        (lambda: nn.Residual([nn.Dense(3)], nn.Dense(3)), r"shortcut must be a list of layers, but is Dense\(units=3"),
        (lambda: nn.Recompute(nn.Dense), "layers must be a list of layers, but is <class"),
        (lambda: nn.Sequential(nn.Dense), r"Dense is a class; make an object of it: Dense\(\.\.\.\)"),
        (lambda: nn.Sequential("dense"), r"'dense' is not a layer; give an object such as Dense\(10\)"),
        (lambda: nn.Sequential(ad.tanh), "Primitive has no kind, after which a layer in a list is named"),
        (lambda: nn.Dense(3.5), "units must be a whole number, but is 3.5"),
        (lambda: nn.Dense("3"), "units must be a whole number, but is '3'"),
        (lambda: nn.Dense(True), "units must be a whole number, but is True"),
        (lambda: nn.Conv2d(4, 2.5), "size must be a whole number or two, but is 2.5"),
        (lambda: nn.Conv2d(4, (3, 2.5)), r"size must be a whole number or two, but is \(3, 2.5\)"),
        (lambda: nn.MaxPool1d(2.0), "size must be one whole number, but is 2.0"),
        (lambda: nn.Conv2d(4, 3, padding=1.5), "padding must be a whole number, but is 1.5"),
        (lambda: nn.Reshape(3), "shape must be a list of whole numbers, but is 3"),
        (lambda: nn.Residual((nn.Dense(2),), activation="rellu"), "unknown activation 'rellu'; did you mean 'relu'"),
        (lambda: nn.Recompute(()), "at least one layer"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(UserError, match=f"^(a model needs )?{message}"):
        make()


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (
            [nn.Conv2d(2, 3)],
            (8, 8),
            r"conv2d_1: takes \(height, width, channels\) per example, .* \(8, 8\); put a resh",
        ),
        (
            [nn.Conv1d(2, 3)],
            (8,),
            r"conv1d_1: takes \(length, channels\) per example, but its inputs have shape \(8,\)",
        ),
        ([nn.ConvTranspose2d(2, 3)], (8, 8), r"conv_transpose2d_1: takes \(height, width, channels\)"),
        ([nn.ConvTranspose2d(2, 3, padding=3)], (3, 3, 1), "conv_transpose2d_1: padding 3 takes away all"),
        ([nn.MaxPool2d(2)], (8, 8), r"max_pool2d_1: takes \(height, width, channels\)"),
        ([nn.AveragePool1d(2)], (8, 8, 1), r"average_pool1d_1: takes \(length, channels\)"),
        ([nn.GlobalAveragePool()], (8,), r"global_average_pool_1: takes \(places \.\.\., channels\)"),
        ([nn.GRU(2)], (8,), r"gru_1: takes \(length, channels\) per example, .*; put an embedding"),
        ([nn.LSTM(2)], (8, 8, 1), r"lstm_1: takes \(length, channels\)"),
        ([nn.Position()], (8,), r"position_1: takes \(length, channels\)"),
        ([nn.Attention(2)], (8,), r"attention_1: takes \(length, channels\)"),
        (
            [nn.Attention(3)],
            (8, 4),
            r"attention_1: channels must be a multiple of heads \(3\), but its inputs .*\(8, 4\)",
        ),
        (
            [nn.GroupNorm(3)],
            (8, 4),
            r"group_norm_1: channels must be a multiple of groups \(3\), .* have shape \(8, 4\)",
        ),
        (
            [nn.Conv2d(4, 3, groups=2)],
            (8, 8, 3),
            r"conv2d_1: channels must be a multiple of groups \(2\), .*\(8, 8, 3\)",
        ),
        (
            [nn.Conv1d(4, 3, groups=2)],
            (8, 3),
            r"conv1d_1: channels must be a multiple of groups \(2\), .* shape \(8, 3\)",
        ),
        ([nn.Reshape((3, 2))], (8,), r"reshape_1: shape \(3, 2\) holds 6 numbers per example, .*\(8,\), which are 8"),
        (
            [nn.Conv2d(2, 3), nn.Conv2d(2, 7)],
            (8, 8, 1),
            r"conv2d_2: a window of size 7 does not fit its inputs of 6 x 6; size must be at most 6, or padding 'same'",
        ),
        (
            [nn.Conv2d(2, 7, "relu"), nn.MaxPool2d(3)],
            (8, 8, 1),
            r"max_pool2d_1: a window of size 3 does not fit its inputs of 2 x 2; size must be at most 2, or pad",
        ),
        ([nn.MaxPool1d(9)], (8, 2), "max_pool1d_1: a window of size 9 .* of length 8; size must be at most 8, or padd"),
        (
            [nn.AveragePool2d((2, 5))],
            (8, 4, 2),
            r"average_pool2d_1: .* size \(2, 5\) .* 8 x 4; .* at most \(8, 4\), or",
        ),
        ([nn.Conv2d(2, 3, padding=1, dilation=6)], (8, 8, 1), "conv2d_1: .* size 3 with dilation 6 .* at most 2, or"),
        ([nn.Conv1d(2, 3)], (0, 1), "conv1d_1: .* does not fit its inputs of length 0; there is nothing in them"),
        ([nn.Embedding(3, 2)], (8,), r"embedding_1: takes whole numbers from 0 to 2, but its inputs contain"),
        (
            [nn.Flatten(), nn.Residual((nn.Dense(3), nn.Dense(4)))],
            (8,),
            r"residual_1: the layers give \(4,\) per example, but the shortcut gives \(8,\)",
        ),
        (
            [nn.Dense(4), nn.Residual((nn.Dense(4), nn.Residual((nn.Dense(4), nn.Conv1d(3, 1)))))],
            (8,),
            r"residual_1/residual_1/conv1d_1: takes \(length, channels\)",
        ),
        (
            [nn.Residual((nn.Dense(4),), (nn.Dense(4), nn.GRU(4)))],
            (8,),
            r"residual_1/shortcut/gru_1: takes \(length, channels\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_name_the_layer(layers, shape, message):
    with pytest.raises((UserError, ad.ShapeError), match=f"^{message}"):
        run(nn.Sequential(*layers), inputs(2, *shape))


def test_lists_and_numbers_of_numpy_are_settings_as_well():
    layer = nn.Conv2d(np.int64(4), [3, 2], stride=np.int32(2), padding=np.int64(1), groups=np.int8(2))
    assert layer == nn.Conv2d(4, (3, 2), stride=2, padding=1, groups=2)
    assert hash(layer) == hash(nn.Conv2d(4, (3, 2), stride=2, padding=1, groups=2))
    assert nn.Sequential([nn.Dense(3), nn.Dense(2)]) == nn.Sequential(nn.Dense(3), nn.Dense(2))
    assert to_toml({"kind": {"size": nn.MaxPool2d(np.int64(2)).size}}) == "\n[kind]\nsize = 2\n"


WRONG_WEIGHTS = {
    "dense": (
        nn.Dense(4),
        (2,),
        (3,),
        r"dense_1: its inputs have 3 channels, but weights are for 2 \('dense_1/weight'",
    ),
    "conv2d": (
        nn.Conv2d(4, 2),
        (4, 4, 2),
        (4, 4, 3),
        r"conv2d_1: .* 'conv2d_1/weight' of shape \(2, 2, 3, 4\), but it",
    ),
    "lstm": (nn.LSTM(4), (5, 2), (5, 3), "lstm_1: its inputs have 3 channels, but weights are for 2"),
    "position": (nn.Position(), (1, 2), (5, 2), "position_1: its inputs have 5 channels|position_1: inputs of this"),
    "layer_norm": (nn.LayerNorm(), (1,), (3,), r"layer_norm_1: .* 'layer_norm_1/scale' of shape \(3,\), but it has"),
    "batch_norm": (nn.BatchNorm(), (1,), (3,), r"batch_norm_1: .* 'batch_norm_1/scale' of shape \(3,\), but it has"),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_for_other_inputs_are_refused_not_broadcast(name):
    layer, made_for, given, message = WRONG_WEIGHTS[name]
    model = nn.Sequential(layer)
    parameters, running = start(model, inputs(2, *made_for))
    with pytest.raises(UserError, match=f"^{message}"):
        model(nn.use(parameters, running), inputs(2, *given))


def test_weights_that_do_not_fit_places_are_refused():
    for shape, places in (((6, 4), (5,)), ((6, 5, 2), (5,)), ((6, 2), ())):
        with pytest.raises(UserError, match="weights must be one number per example"):
            nn.check_weights(np.zeros(shape), places)
    for shape, places in (((6,), (5,)), ((6, 5), (5,)), ((6,), ())):
        nn.check_weights(np.zeros(shape), places)


# --- configs ----------------------------------------------------------------------------------------

# Every setting of every layer, none as it is by default.
WINDOW = {"size": [3, 2], "stride": [2, 1], "padding": "same"}
ALONG = {"size": 3, "stride": 2, "padding": 1}
MADE = {"activation": "tanh", "initializer": "he_normal", "bias": False}
TABLES = {
    "dense": {"units": 3, **MADE},
    "activation": {"function": "gelu"},
    "flatten": {},
    "reshape": {"shape": [2, 4]},
    "conv1d": {"filters": 4, **ALONG, "dilation": 2, "groups": 2, **MADE},
    "conv2d": {"filters": 4, **WINDOW, "dilation": [1, 2], "groups": 2, **MADE},
    "conv_transpose2d": {"filters": 4, **WINDOW, **MADE},
    "max_pool1d": ALONG,
    "max_pool2d": WINDOW,
    "average_pool1d": ALONG,
    "average_pool2d": WINDOW,
    "global_average_pool": {},
    "global_max_pool": {},
    "batch_norm": {"decay": 0.5, "epsilon": 0.01},
    "layer_norm": {"epsilon": 0.01},
    "group_norm": {"groups": 2, "epsilon": 0.01},
    "dropout": {"rate": 0.25},
    "embedding": {"entries": 9, "units": 3, "initializer": "zeros"},
    "position": {"initializer": "zeros"},
    "gru": {"units": 3, "sequences": False, "initializer": "zeros", "recurrent_initializer": "ones"},
    "lstm": {"units": 3, "sequences": False, "initializer": "zeros", "recurrent_initializer": "ones"},
    "attention": {"heads": 2, "causal": True, "initializer": "zeros", "bias": False},
    "recompute": {"layers": [{"kind": "dense", "units": 3}, {"kind": "batch_norm"}]},
    "residual": {
        "layers": [{"kind": "dense", "units": 3}, {"kind": "residual", "layers": [{"kind": "batch_norm"}]}],
        "shortcut": [{"kind": "conv2d", "filters": 4, "size": 1, "padding": 0}],
        "activation": "relu",
    },
}


def settings_with(*layers):
    return settings_from(
        {
            "loss": "cross_entropy",
            "epochs": 1,
            "batch_size": 2,
            "data": {"train": "dbp:digits-train"},
            "model": {"layers": list(layers)},
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        }
    )


def test_every_kind_has_a_table():
    assert set(TABLES) == set(nn.LAYERS)


@pytest.mark.parametrize("kind", nn.LAYERS)
def test_layers_survive_being_written_and_read(kind):
    settings = settings_with({"kind": kind, **TABLES[kind]})
    layer: Layer = settings.model.layers[0]
    assert type(layer) is nn.LAYERS[kind]
    for field in dataclasses.fields(layer):
        assert getattr(layer, field.name) != field.default
        if field.name not in ("layers", "shortcut"):
            given = TABLES[kind][field.name]
            assert getattr(layer, field.name) == (tuple(given) if isinstance(given, list) else given)
    again = settings_from(tomllib.loads(to_toml(table_from(settings))))
    assert again == settings
    assert again.model.layers == (layer,)


def test_layers_within_layers_are_read():
    outer = settings_with({"kind": "residual", **TABLES["residual"]}).model.layers[0]
    inner = nn.Residual((nn.BatchNorm(),))
    assert outer == nn.Residual((nn.Dense(3), inner), (nn.Conv2d(4, 1, padding=0),), "relu")


def test_a_sequence_of_layers_within_layers_survives_too():
    inner = nn.Sequential(nn.Dense(64, "relu"), nn.Dense(64))
    for model in (nn.Sequential(nn.Flatten(), inner, nn.Residual((inner,)), nn.Dense(10)), nn.Dense(10)):
        settings = dataclasses.replace(settings_with({"kind": "flatten"}), model=model)
        assert settings_from(tomllib.loads(to_toml(table_from(settings)))) == settings


@pytest.mark.parametrize("kind", nn.LAYERS)
def test_a_misspelt_kind_or_key_gets_the_nearest_name(kind):
    with pytest.raises(UserError, match=f"^unknown model.layers.1 kind '{kind}d'; did you mean '{kind}'"):
        settings_with({"kind": "flatten"}, {"kind": f"{kind}d"})
    for name, value in TABLES[kind].items():
        table = {"kind": kind, **TABLES[kind], f"{name}s": value}
        with pytest.raises(
            UserError, match=rf"^unknown key 'model.layers.0.{name}s'; did you mean 'model.layers.0.{name}'"
        ):
            settings_with(table)


def nested(*layers):
    return {"kind": "residual", "layers": [{"kind": "dense", "units": 3}, *layers]}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "conv2d", "size": 3}, "model.layers.0.filters is missing; Conv2d needs it"),
        ({"kind": "conv2d", "filters": 3, "size": "3"}, "model.layers.0.size must be a.* or a.*, but is '3'"),
        ({"kind": "conv2d", "filters": 3, "size": [3, 3, 3]}, "model.layers.0.size must be "),
        ({"kind": "conv1d", "filters": 3, "size": [3, 3]}, "model.layers.0.size must be a whole number"),
        ({"kind": "conv2d", "filters": 3, "size": 3, "padding": "sam"}, "model.layers.0: unknown padding 'sam'"),
        ({"kind": "conv2d", "filters": 3, "size": 3, "padding": 0.5}, "model.layers.0.padding must be "),
        ({"kind": "dropout", "rate": 2}, "model.layers.0: rate must be at least 0 and below 1, but is 2"),
        ({"kind": "attention", "heads": 2, "causal": 1}, "model.layers.0.causal must be true or false, but is 1"),
        ({"kind": "residual", "layers": 3}, "model.layers.0.layers must be a list of layers, but is 3"),
        ({"kind": "residual", "layers": []}, "model.layers.0: a model needs at least one layer"),
        ({"kind": "residual"}, "model.layers.0.layers is missing; Residual needs it"),
        (nested({"kind": "dense", "unit": 2}), "unknown key 'model.layers.0.layers.1.unit'; did you mean '.*1.units'"),
        (nested({"kind": "dens"}), "unknown model.layers.0.layers.1 kind 'dens'; did you mean 'dense'"),
        (nested({"units": 2}), "model.layers.0.layers.1 needs a kind"),
        (
            nested(nested({"kind": "dense", "units": "x"})),
            "model.layers.0.layers.1.layers.1.units must be a whole number",
        ),
        (nested(nested({"kind": "dense", "units": 0})), "model.layers.0.layers.1.layers.1: units must be at least 1"),
        (
            nested() | {"shortcut": [{"kind": "flatten"}, {"kind": "dropout"}]},
            "model.layers.0.shortcut.1.rate is missing; Dropout needs it",
        ),
    ],
)
def test_mistakes_in_layers_are_named_by_their_key(layer, message):
    with pytest.raises(UserError, match=f"^{message}"):
        settings_with(layer)


# --- trained ----------------------------------------------------------------------------------------

IMAGES = """
    { kind = "reshape", shape = [8, 8, 1] },
    { kind = "conv2d", filters = 4, size = 3, padding = "same", activation = "relu" },
    { kind = "max_pool2d", size = 2 },
    { kind = "batch_norm" },
    { kind = "dropout", rate = 0.2 },
    { kind = "residual", activation = "relu", layers = [
        { kind = "conv2d", filters = 6, size = 3, padding = 1, groups = 2 }, { kind = "group_norm", groups = 2 },
    ], shortcut = [{ kind = "conv2d", filters = 6, size = 1 }, { kind = "batch_norm", decay = 0.8 }] },
    { kind = "average_pool2d", size = 2 },
    { kind = "conv_transpose2d", filters = 4, size = 2, stride = 2 },
    { kind = "activation", function = "elu" },
    { kind = "global_average_pool" },
    { kind = "dense", units = 10 },
"""
ROWS = """
    { kind = "position" },
    { kind = "attention", heads = 2, causal = true },
    { kind = "layer_norm" },
    { kind = "residual", layers = [
        { kind = "dense", units = 8, activation = "gelu" }, { kind = "dropout", rate = 0.1 },
    ] },
    { kind = "gru", units = 6 },
    { kind = "lstm", units = 6, sequences = false },
    { kind = "dense", units = 10 },
"""
NUMBERS = """
    { kind = "reshape", shape = [64] },
    { kind = "embedding", entries = 17, units = 4 },
    { kind = "conv1d", filters = 4, size = 4, stride = 2, activation = "relu" },
    { kind = "max_pool1d", size = 2, padding = "same" },
    { kind = "average_pool1d", size = 4, stride = 2 },
    { kind = "global_max_pool" },
    { kind = "flatten" },
    { kind = "dense", units = 10 },
"""


def write_config(folder, layers, scale="", epochs=1):
    path = folder / "layers.toml"
    path.write_text(
        f'out = "{folder}/run"\nloss = "cross_entropy"\nepochs = {epochs}\nbatch_size = 30\nshards = 4\nseed = 2\n'
        f'[data]\ntrain = "dbp:digits-test"\n{scale}\n[optimizer]\nkind = "adam"\nlearning_rate = 1e-2\n'
        f"[checkpoint]\nevery_steps = 5\nkeep = 100\n[model]\nlayers = [{layers}]\n"
    )
    return path


def train(ranks, config):
    outcome = mpirun(ranks, "-m", "dbp", "train", config)
    assert outcome.code == 0, outcome.text
    return outcome.out


def check_inference(folder, ranks):
    """Evaluation and predictions of a run agree with each other and with the targets."""
    evaluated = dbp("eval", folder / "run", "dbp:digits-test")
    assert evaluated.code == 0, evaluated.text
    predicted = mpirun(ranks, "-m", "dbp", "predict", folder / "run", "dbp:digits-test", folder / "out.h5")
    assert predicted.code == 0, predicted.text
    with h5py.File(folder / "out.h5") as file:
        probabilities, classes = file["probabilities"][:], file["classes"][:]
    with h5py.File(ROOT / "dbp" / "data" / "digits-test.h5") as file:
        targets = file["targets"][:]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    cost = -np.mean(np.log(probabilities[np.arange(len(targets)), targets]))
    figures = {"cost": cost, "accuracy": np.mean(classes == targets)}
    for name, value in figures.items():
        assert float(re.search(rf"{name} ([\d.]+)", evaluated.out)[1]) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("layers", "scale"), [(ROWS, ""), (NUMBERS, "scale = 1")], ids=["rows", "numbers"])
def test_layers_of_sequences_train_and_predict(layers, scale, tmp_path):
    assert "epoch 1/1  cost" in train(2, write_config(tmp_path, layers, scale))
    check_inference(tmp_path, 1)


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """The digest after two epochs on one rank, and the running moments."""
    folder = tmp_path_factory.mktemp("one_rank")
    train(1, write_config(folder, IMAGES, epochs=2))
    return digest(folder / "run"), moments_of(folder)


def moments_of(folder):
    """The running moments in the newest checkpoint of a run."""
    with h5py.File(max((folder / "run" / "checkpoints").glob("*.h5"))) as file:
        places = ("batch_norm_1", "residual_1/shortcut/batch_norm_1")
        return {f"{p}/{n}": file[f"model/{p}/{n}"][:] for p in places for n in ("running_mean", "running_variance")}


def check_equal(folder, one_rank):
    found = moments_of(folder)
    for name, array in one_rank[1].items():
        assert array.any(), name
        assert not (array == 1).all(), name
        np.testing.assert_array_equal(found[name], array)
    assert digest(folder / "run") == one_rank[0]


def test_layers_of_images_train_to_the_same_bits_and_predict(one_rank, tmp_path):
    train(2, write_config(tmp_path, IMAGES, epochs=2))
    check_equal(tmp_path, one_rank)
    check_inference(tmp_path, 2)


def test_dropout_and_running_moments_resume_on_another_number_of_ranks(one_rank, tmp_path):
    config = write_config(tmp_path, IMAGES, epochs=2)
    train(3, config)
    check_equal(tmp_path, one_rank)
    for path in (tmp_path / "run" / "checkpoints").glob("*.h5"):
        if path.name > "step-000000005.h5":
            path.unlink()
    assert "step 5" in train(2, config)
    check_equal(tmp_path, one_rank)

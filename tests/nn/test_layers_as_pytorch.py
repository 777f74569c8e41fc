"""Layers and losses beside PyTorch's in float64: values, gradients, Hessian and Gauss-Newton products, running moments.

The PyTorch model takes its weights in dbp's form and turns them inside, so that all derivatives compare as they are.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.objective import Objective, Shard
from dbp.parallel import Layout, OneProcess, Shards

torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
functional = torch.nn.functional

DRAW = nn.Draw(seed=0, step=0, shard=0)
ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "silu": functional.silu,
    "gelu": functools.partial(functional.gelu, approximate="tanh"),
    "gelu_exact": functional.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "softmax": functools.partial(functional.softmax, dim=-1),
}


# --- models in PyTorch ------------------------------------------------------------------------------


@dataclass
class Place:
    """Where a layer finds its weights and running moments."""

    weights: dict
    training: bool
    running: dict = field(default_factory=dict)
    path: str = ""

    def inside(self, name):
        return Place(self.weights, self.training, self.running, f"{self.path}{name}/")

    def __call__(self, name):
        return self.weights.get(self.path + name)


def first(x):
    """Channels in the place where PyTorch has them."""
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


@functools.singledispatch
def follow(layer, place, x):
    """What PyTorch makes of x with the layer's settings."""
    raise NotImplementedError(type(layer))


@follow.register
def _(layer: nn.Sequential, place, x):
    for name, inner in zip(layer.names, layer.layers, strict=True):
        x = follow(inner, place.inside(name), x)
    return x


@follow.register
def _(layer: nn.Residual, place, x):
    straight = follow(nn.Sequential(*layer.shortcut), place.inside("shortcut"), x) if layer.shortcut else x
    return ACTIVATIONS[layer.activation](follow(nn.Sequential(*layer.layers), place, x) + straight)


@follow.register
def _(layer: nn.Recompute, place, x):
    return follow(nn.Sequential(*layer.layers), place, x)


@follow.register
def _(layer: nn.Dense, place, x):
    return ACTIVATIONS[layer.activation](functional.linear(x, place("weight").T, place("bias")))


@follow.register
def _(layer: nn.Activation, _place, x):
    return ACTIVATIONS[layer.function](x)


@follow.register
def _(_layer: nn.Flatten, _place, x):
    return torch.flatten(x, 1)


@follow.register
def _(layer: nn.Reshape, _place, x):
    return x.reshape(len(x), *layer.shape)


@follow.register
def _(layer: nn.Conv2d, place, x):
    w = place("weight").permute(3, 2, 0, 1)
    z = functional.conv2d(first(x), w, place("bias"), layer.stride, layer.padding, layer.dilation, layer.groups)
    return ACTIVATIONS[layer.activation](last(z))


@follow.register
def _(layer: nn.Conv1d, place, x):
    w = place("weight")[0].permute(2, 1, 0)
    z = functional.conv1d(first(x), w, place("bias"), layer.stride, layer.padding, layer.dilation, layer.groups)
    return ACTIVATIONS[layer.activation](last(z))


@follow.register
def _(layer: nn.ConvTranspose2d, place, x):
    w, padding = place("weight").permute(3, 2, 0, 1), 0 if layer.padding == "valid" else layer.padding
    z = functional.conv_transpose2d(first(x), w, place("bias"), layer.stride, padding)
    return ACTIVATIONS[layer.activation](last(z))


def _pooled(function, layer, x, **settings):
    padding = 0 if layer.padding == "valid" else layer.padding
    return last(function(first(x), layer.size, layer.stride, padding, **settings))


@follow.register
def _(layer: nn.MaxPool2d, _place, x):
    return _pooled(functional.max_pool2d, layer, x)


@follow.register
def _(layer: nn.MaxPool1d, _place, x):
    return _pooled(functional.max_pool1d, layer, x)


@follow.register
def _(layer: nn.AveragePool2d, _place, x):
    return _pooled(functional.avg_pool2d, layer, x, count_include_pad=False)


@follow.register
def _(layer: nn.AveragePool1d, _place, x):
    return _pooled(functional.avg_pool1d, layer, x, count_include_pad=False)


@follow.register
def _(_layer: nn.GlobalAveragePool, _place, x):
    return x.mean(tuple(range(1, x.ndim - 1)))


@follow.register
def _(_layer: nn.GlobalMaxPool, _place, x):
    return x.amax(tuple(range(1, x.ndim - 1)))


@follow.register
def _(layer: nn.BatchNorm, place, x):
    mean, variance = place.running[place.path]
    scale, shift = place("scale"), place("shift")
    return last(
        functional.batch_norm(first(x), mean, variance, scale, shift, place.training, 1 - layer.decay, layer.epsilon)
    )


@follow.register
def _(layer: nn.LayerNorm, place, x):
    return functional.layer_norm(x, x.shape[-1:], place("scale"), place("shift"), layer.epsilon)


@follow.register
def _(layer: nn.GroupNorm, place, x):
    return last(functional.group_norm(first(x), layer.groups, place("scale"), place("shift"), layer.epsilon))


@follow.register
def _(_layer: nn.Embedding, place, x):
    return functional.embedding(x, place("weight"))


@follow.register
def _(_layer: nn.Position, place, x):
    return x + place("weight")


def _recurrent(layer, place, x, function, state, bias):
    weights = [place("weight").T, place("recurrent").T, place("bias"), bias]
    y = function(x, state, weights, True, 1, 0.0, place.training, False, True)[0]
    return y if layer.sequences else y[:, -1]


@follow.register
def _(layer: nn.GRU, place, x):
    state, none = torch.zeros(1, len(x), layer.units).to(x), torch.zeros(2 * layer.units).to(x)
    return _recurrent(layer, place, x, torch.gru, state, torch.cat([none, place("candidate_bias")]))


@follow.register
def _(layer: nn.LSTM, place, x):
    state, none = torch.zeros(1, len(x), layer.units).to(x), torch.zeros(4 * layer.units).to(x)
    return _recurrent(layer, place, x, torch.lstm, (state, state), none)


@follow.register
def _(layer: nn.Attention, place, x):
    names, (_, length, channels) = ("query", "key", "value"), x.shape
    places = x.movedim(0, 1)
    y, _ = functional.multi_head_attention_forward(
        places, places, places, channels, layer.heads,
        torch.cat([place(f"{name}/weight").T for name in names]),
        torch.cat([place(f"{name}/bias") for name in names]) if layer.bias else None,
        None, None, False, 0.0, place("output/weight").T, place("output/bias"),
        attn_mask=torch.ones(length, length, dtype=torch.bool).triu(1) if layer.causal else None,
    )  # fmt: skip
    return y.movedim(0, 1)


# --- the comparison ---------------------------------------------------------------------------------


def start(model, x):
    """Parameters away from the zeros and ones that some begin with, and running moments."""
    initial = nn.initial_parameters(model, x, 0, "float64")
    parameters, running = initial.parameters, initial.running
    rng = np.random.default_rng(1)
    for array in parameters.values():
        array += 0.2 * rng.standard_normal(array.shape)
    for moments in running.values():
        moments.mean += rng.standard_normal(moments.mean.shape)
        moments.variance += rng.random(moments.variance.shape)
    return parameters, running


def tensors(arrays):
    return {name: torch.tensor(array, requires_grad=array.dtype == np.float64) for name, array in arrays.items()}


def assert_close(got, expected, what):
    """By name equal to rounding, which is that of the largest number of all."""
    size = max(float(t.detach().abs().max()) for t in expected if t.numel())
    for (name, array), t in zip(got.items(), expected, strict=True):
        np.testing.assert_allclose(array, t.detach(), rtol=1e-9, atol=1e-11 * size, err_msg=f"{what} {name}")


def pullbacks(output, leaves, cotangent=None, keep=True):
    """The cotangents of the leaves by PyTorch, zero where the output does not depend on one."""
    return torch.autograd.grad(
        output, leaves, cotangent, create_graph=keep, retain_graph=True, materialize_grads=True, allow_unused=True
    )


def torch_products(outputs, cost_of, leaves, tangents):
    """The Hessian product and the Gauss-Newton product J^T H J v, all by reverse mode."""
    gradients = pullbacks(cost_of(outputs), leaves)
    hessian = pullbacks(sum((g * v).sum() for g, v in zip(gradients, tangents, strict=True)), leaves)
    dummy = torch.zeros_like(outputs, requires_grad=True)
    pulled = pullbacks(outputs, leaves, dummy)
    (moved,) = pullbacks(sum((g * v).sum() for g, v in zip(pulled, tangents, strict=True)), [dummy])  # J v
    free = outputs.detach().requires_grad_()
    (slope,) = pullbacks(cost_of(free), [free])
    (curved,) = pullbacks((slope * moved.detach()).sum(), [free])  # H J v
    return hessian, pullbacks(outputs, leaves, curved.detach(), keep=False)  # J^T H J v


def compare(model, x, training=True):
    """Values, gradients and products of second order, and running moments, by parameters and real inputs."""
    parameters, running = start(model, x)
    points = {**parameters, "x": x} if x.dtype == np.float64 else parameters
    call_of = lambda given: nn.call_with(given, running, DRAW if training else None)  # noqa: E731
    place = Place(tensors(points), training)
    place.running = {n: (torch.tensor(m.mean), torch.tensor(m.variance)) for n, m in running.items()}

    def outputs_of(given):
        return model(nn.Scope(call_of(given)), given.get("x", x))

    def cost_of(z):
        return ad.sum_(ad.sin(z) * z) + 0.1 * ad.square(ad.sum_(z))

    def torch_cost_of(z):
        return (torch.sin(z) * z).sum() + 0.1 * z.sum() ** 2

    leaves = list(place.weights.values())
    outputs = follow(model, place, place.weights.get("x", torch.tensor(x)))
    assert_close({"": outputs_of(points)}, [outputs], "outputs")
    _, gradient = ad.value_and_gradient(lambda given: cost_of(outputs_of(given)))(points)
    assert_close(gradient, pullbacks(torch_cost_of(outputs), leaves), "gradient by")

    rng = np.random.default_rng(2)
    tangents = {name: rng.standard_normal(array.shape) for name, array in points.items()}
    (hessian,) = ad.hessian_product(lambda given: cost_of(outputs_of(given)), (points,), (tangents,))
    (gauss_newton,) = ad.gauss_newton_product(outputs_of, cost_of, (points,), (tangents,))
    moved = [torch.tensor(t) for t in tangents.values()]
    expected = torch_products(outputs, torch_cost_of, leaves, moved)
    assert_close(hessian, expected[0], "Hessian product by")
    assert_close(gauss_newton, expected[1], "Gauss-Newton product by")
    compare_running(model, call_of(points), points.get("x", x), running, place)


def compare_running(model, call, x, running, place):
    """After a pass the running moments are PyTorch's; outside of training they stay."""
    model(nn.Scope(call), x)
    if call.draw is not None and running:
        nn.update_all(running, np.concatenate(nn.all_sums(running, call.observed)))
    for path, moments in running.items():
        assert_close({"mean": moments.mean, "variance": moments.variance}, place.running[path], f"{path} running")


# --- layers -----------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).standard_normal((3, 7, 6, 4))
SEQUENCES = np.random.default_rng(1).standard_normal((3, 6, 4))
ROWS = np.random.default_rng(2).standard_normal((5, 4))
NUMBERS = np.random.default_rng(3).integers(0, 5, (3, 6))

LAYERS = [
    *((nn.Dense(5, name), ROWS) for name in nn.ACTIVATIONS),
    (nn.Dense(5, "tanh", bias=False), IMAGES),
    (nn.Conv2d(6, 3), IMAGES),
    (nn.Conv2d(6, (3, 2), "tanh", stride=(1, 2), padding=1), IMAGES),
    (nn.Conv2d(6, (2, 3), "relu", padding="same", dilation=(2, 1)), IMAGES),
    (nn.Conv2d(6, 4, "gelu", padding="same", bias=False), IMAGES),
    (nn.Conv2d(6, 3, "relu", stride=2, groups=2), IMAGES),
    (nn.Conv2d(4, 3, "silu", groups=4, padding=2, dilation=2), IMAGES),
    (nn.Conv2d(8, (1, 3), groups=4), IMAGES),
    (nn.Conv1d(6, 3, "tanh", stride=2, padding=1), SEQUENCES),
    (nn.Conv1d(6, 2, "relu", padding="same", dilation=2, groups=2), SEQUENCES),
    (nn.Conv1d(8, 4, "elu", groups=4, bias=False), SEQUENCES),
    (nn.ConvTranspose2d(3, 3, "tanh"), IMAGES),
    (nn.ConvTranspose2d(3, (2, 4), "softplus", stride=(3, 2), padding=1), IMAGES),
    (nn.BatchNorm(decay=0.7, epsilon=1e-3), ROWS),
    (nn.BatchNorm(), SEQUENCES),
    (nn.BatchNorm(decay=0.0), IMAGES),
    (nn.LayerNorm(), SEQUENCES),
    (nn.LayerNorm(epsilon=0.1), ROWS),
    *((nn.GroupNorm(groups, epsilon=0.01), x) for groups in (1, 2, 4) for x in (IMAGES, SEQUENCES)),
    (nn.Embedding(5, 3), NUMBERS),
    (nn.Position(), SEQUENCES),
    *((layer(3, sequences), SEQUENCES) for layer in (nn.GRU, nn.LSTM) for sequences in (True, False)),
    *((nn.Attention(2, causal), SEQUENCES) for causal in (True, False)),
    (nn.Attention(1, causal=True, bias=False), SEQUENCES),
]
# Those without parameters stand behind one that has some.
POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d((3, 2), stride=(2, 1), padding=1),
    nn.AveragePool2d((2, 3)),
    nn.AveragePool2d(3, stride=2, padding=1),
    nn.GlobalAveragePool(),
    nn.GlobalMaxPool(),
    nn.Flatten(),
    nn.Reshape((6, 7, 5)),
]
POOLS_ALONG = [nn.MaxPool1d(2), nn.MaxPool1d(3, 1, 1), nn.AveragePool1d(2), nn.AveragePool1d(3, 2, 1)]


def kind_of(value):
    return "" if isinstance(value, np.ndarray) else value.kind


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch may copy the inputs
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("layer", "x"), LAYERS, ids=kind_of)
def test_layers(layer, x, training):
    compare(layer, x, training)


@pytest.mark.parametrize("pool", POOLS, ids=kind_of)
def test_pooling_of_images(pool):
    compare(nn.Sequential(nn.Conv2d(5, 3, padding=1), pool), IMAGES)
    compare(nn.Sequential(nn.Conv2d(5, 3, "relu", padding=1), pool), IMAGES)


@pytest.mark.parametrize("pool", [*POOLS_ALONG, nn.GlobalMaxPool(), nn.GlobalAveragePool()], ids=kind_of)
def test_pooling_of_sequences(pool):
    compare(nn.Sequential(nn.Dense(5), pool), SEQUENCES)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Residual((nn.Dense(6, "tanh"), nn.Dense(4)), activation="sigmoid"), ROWS),
        (nn.Residual((nn.Dense(6), nn.BatchNorm()), (nn.Dense(6, "gelu"),), "relu"), ROWS),
        (nn.Residual((nn.Attention(2), nn.LayerNorm())), SEQUENCES),
        (nn.Residual((nn.Residual((nn.Conv2d(4, 3, padding="same"),)), nn.BatchNorm(0.5)), activation="elu"), IMAGES),
        (nn.Recompute((nn.Dense(6, "tanh"), nn.BatchNorm(), nn.Recompute((nn.Dense(3),)))), ROWS),
    ],
    ids=kind_of,
)
def test_layers_of_layers(layer, x, training):
    compare(layer, x, training)


def test_every_layer_is_compared():
    compared = {type(layer) for layer, _ in LAYERS} | {type(pool) for pool in (*POOLS, *POOLS_ALONG)}
    # Activations are compared in dense layers; which numbers dropout draws is each library's own.
    assert set(nn.LAYERS.values()) - compared == {nn.Activation, nn.Dropout, nn.Residual, nn.Recompute}


def random_images(rng):
    """Some layers for images, each with settings drawn at random."""

    def pick(*options):
        return options[rng.integers(len(options))]

    name = pick("relu", "tanh", "gelu", "silu", "elu")
    padded = nn.Conv2d(4, 3, name, padding="same", dilation=pick(1, 2), groups=pick(1, 2, 4))
    return pick(
        nn.Conv2d(pick(4, 8), pick(1, 2, (2, 3)), name, stride=pick(1, (1, 2)), padding=1, groups=pick(1, 2)),
        nn.Residual((padded, nn.BatchNorm(pick(0.9, 0.5))), (nn.Conv2d(4, 1),), pick("relu", "linear")),
        nn.Sequential(padded, nn.MaxPool2d(2, stride=pick(1, 2))),
        nn.Sequential(nn.ConvTranspose2d(4, 2, name, stride=pick(1, 2)), nn.AveragePool2d(2)),
        nn.Sequential(nn.Activation(name), nn.GroupNorm(pick(1, 2, 4))),
        nn.Sequential(nn.BatchNorm(), nn.Activation(name), nn.AveragePool2d(3, 1, 1)),
    )


def random_sequences(rng):
    """Some layers for sequences, each with settings drawn at random."""

    def pick(*options):
        return options[rng.integers(len(options))]

    return pick(
        nn.Conv1d(4, pick(1, 2, 3), pick("relu", "tanh"), padding="same", dilation=pick(1, 2), groups=pick(1, 2)),
        nn.Residual((nn.LayerNorm(), nn.Attention(pick(1, 2, 4), bool(pick(0, 1))))),
        nn.Residual((nn.LayerNorm(), nn.Dense(7, "gelu"), nn.Dense(4))),
        nn.GRU(4),
        nn.LSTM(4),
        nn.Sequential(nn.Position(), nn.BatchNorm(0.8)),
        nn.Recompute((nn.MaxPool1d(2, 1, 1), nn.Dense(4, "sigmoid"))),
    )


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_of_images(seed, training):
    rng = np.random.default_rng(seed)
    layers = [random_images(rng) for _ in range(3)]
    last_ones = [nn.GlobalAveragePool() if seed % 2 else nn.Flatten(), nn.Dense(5, "tanh"), nn.Dense(3)]
    compare(nn.Sequential(*layers, *last_ones), IMAGES, training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_of_sequences(seed, training):
    rng = np.random.default_rng(seed)
    layers = [random_sequences(rng) for _ in range(3)]
    compare(nn.Sequential(nn.Embedding(5, 4), *layers, nn.GRU(3, sequences=False), nn.Dense(3)), NUMBERS, training)


# --- losses -----------------------------------------------------------------------------------------


def torch_losses(loss, z, targets):
    """PyTorch's loss at each place."""
    if loss.kind == "cross_entropy":
        of_places = targets if targets.dtype == torch.int64 else first(targets)
        smoothing = loss.label_smoothing
        return functional.cross_entropy(first(z), of_places, reduction="none", label_smoothing=smoothing)
    if loss.kind == "kullback_leibler":
        return functional.kl_div(functional.log_softmax(z, -1), targets, reduction="none").sum(-1)
    if loss.kind == "hinge":
        flat = z.reshape(-1, z.shape[-1]), targets.reshape(-1)
        return functional.multi_margin_loss(*flat, margin=loss.margin, reduction="none").reshape(targets.shape)
    if loss.kind == "huber":
        return functional.huber_loss(z, targets, reduction="none", delta=loss.delta)
    name = {
        "binary_cross_entropy": "binary_cross_entropy_with_logits",
        "mean_squared_error": "mse_loss",
        "mean_absolute_error": "l1_loss",
    }[loss.kind]
    return getattr(functional, name)(z, targets, reduction="none")


def targets_for(loss, probabilities, places, rng):
    """Targets of nine examples with three outputs at each place."""
    shape = (9, *places)
    if probabilities:
        return rng.dirichlet(np.ones(3), shape)
    if isinstance(loss, (nn.CrossEntropy, nn.Hinge)):
        return rng.integers(0, 3, shape)
    return rng.random((*shape, 3)) if isinstance(loss, nn.BinaryCrossEntropy) else rng.standard_normal((*shape, 3))


LOSSES = [
    (nn.CrossEntropy(), False),
    (nn.CrossEntropy(), True),
    (nn.CrossEntropy(0.2), False),
    (nn.CrossEntropy(0.2), True),
    (nn.KullbackLeibler(), True),
    (nn.Hinge(), False),
    (nn.Hinge(0.5), False),
    (nn.BinaryCrossEntropy(), False),
    (nn.MeanSquaredError(), False),
    (nn.MeanAbsoluteError(), False),
    (nn.Huber(), False),
    (nn.Huber(0.4), False),
]


def weights_for(kind, places, rng):
    """No weights, one for each example, one for each place, or a mask of places."""
    if kind == "mask":
        return (rng.random((9, *places)) < 0.6).astype(float)
    return {"none": None, "examples": rng.random(9), "places": rng.random((9, *places))}[kind]


@pytest.mark.parametrize("weighted", ["none", "examples", "places", "mask"])
@pytest.mark.parametrize("places", [(), (4,), (2, 3)], ids=str)
@pytest.mark.parametrize(("loss", "probabilities"), LOSSES, ids=str)
def test_losses(loss, probabilities, places, weighted):
    rng = np.random.default_rng(5)
    x, targets = rng.standard_normal((9, *places, 5)), targets_for(loss, probabilities, places, rng)
    weights = weights_for(weighted, places, rng)
    model = nn.Sequential(nn.Dense(4, "tanh"), nn.Dense(3))
    parameters, _ = start(model, x)
    theirs = tensors(parameters)
    outputs, truth = follow(model, Place(theirs, training=True), torch.tensor(x)), torch.tensor(targets)

    def torch_cost_of(z):
        losses = torch_losses(loss, z, truth)
        w = torch.ones(9) if weights is None else torch.tensor(weights)
        losses = losses.reshape(*w.shape, -1).mean(-1)
        return (losses * w).sum() / w.sum()

    layout = Layout.of(parameters)
    objective = Objective(model, loss, layout, OneProcess(), Shards(2), np.dtype("float64"))
    runs = [Shards(2).of_batch(9, n) for n in range(2)]
    objective.batch = [
        Shard(n, *(None if a is None else a[run.start : run.stop] for a in (x, targets, weights)))
        for n, run in enumerate(runs)
    ]
    result = objective.value_and_gradient(layout.flatten(parameters, "float64"))
    cost, leaves = torch_cost_of(outputs), list(theirs.values())
    assert result.cost == pytest.approx(cost.item(), rel=1e-12)
    assert_close(layout.views(result.gradient), pullbacks(cost, leaves), "gradient by")
    if not isinstance(loss, nn.Hinge):  # of which PyTorch has no second derivative
        found = torch_products_of(outputs, torch_cost_of, leaves)
        compare_products(model, loss, parameters, (x, targets, weights), found)


def torch_products_of(outputs, cost_of, leaves):
    """The products of second order for tangents of PyTorch's, and these tangents."""
    rng = np.random.default_rng(6)
    tangents = [rng.standard_normal(tuple(leaf.shape)) for leaf in leaves]
    return tangents, torch_products(outputs, cost_of, leaves, [torch.tensor(t) for t in tangents])


def compare_products(model, loss, parameters, data, found):
    x, targets, weights = data
    tangents, (hessian, gauss_newton) = found
    moved = dict(zip(parameters, tangents, strict=True))

    def outputs_of(given):
        return model(nn.use(given), x)

    def cost_of(z):
        losses = loss(z, targets)
        w = np.ones(9) if weights is None else weights
        losses = ad.mean(losses, axis=tuple(range(w.ndim, np.ndim(losses)))) if np.ndim(losses) > w.ndim else losses
        return ad.sum_(losses * w) / w.sum()

    (ours,) = ad.hessian_product(lambda given: cost_of(outputs_of(given)), (parameters,), (moved,))
    (also_ours,) = ad.gauss_newton_product(outputs_of, cost_of, (parameters,), (moved,))
    assert_close(ours, hessian, "Hessian product by")
    assert_close(also_ours, gauss_newton, "Gauss-Newton product by")


def test_every_loss_is_compared():
    assert {type(loss) for loss, _ in LOSSES} == set(nn.LOSSES.values())

"""Convolutions against plain loops, and fused with pooling."""

import itertools

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from tests.nn.models import DRAW, inputs, run, start


def convolved(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """Convolve position by position and group by group."""
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
    "settings", [{}, {"dilation": 2}, {"stride": 2}, {"size": 2, "stride": 3, "dilation": 2}], ids=str
)
def test_causal_convolutions_see_no_later_input(settings):
    x = inputs(1, 7, 2)
    layer = nn.Conv1d(3, **{"size": 3, "padding": "causal", **settings})
    parameters, y = run(layer, x)
    assert y.shape == (1, -(-7 // layer.stride), 3)
    for position in range(7):
        changed = x.copy()
        changed[:, position] += 1
        differs = (layer(nn.use(parameters), changed) != y).any(axis=(0, 2))
        taps = [position + tap * layer.dilation for tap in range(layer.size)]
        assert np.flatnonzero(differs * 1).tolist() == [
            at // layer.stride for at in taps if at < 7 and at % layer.stride == 0
        ]


@pytest.mark.parametrize("size", [(2, 3, 1), 2])
def test_conv3d_is_the_sum_of_the_convolutions_of_its_planes(size):
    x = inputs(2, 5, 6, 4, 3)
    parameters, y = run(nn.Conv3d(4, size, "tanh", stride=(2, 1, 1), dilation=(1, 2, 1), padding=1), x)
    w, (sizes, depth) = parameters["weight"], ((2, 3, 1) if size != 2 else (2, 2, 2), y.shape[1])
    planes = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    for at in range(depth):
        z = sum(convolved(planes[:, 2 * at + tap], w[tap], (1, 1), ((1, 1), (1, 1)), (2, 1)) for tap in range(sizes[0]))
        np.testing.assert_allclose(y[:, at], np.tanh(z + parameters["bias"]), atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("draw", [None, DRAW])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_convolution_fused_with_its_pooling_gives_the_same(activation, size, draw, axes):
    lengths = (9, 8)[-axes:]
    x, convolve = inputs(3, *lengths, 2), (nn.Conv1d, nn.Conv2d)[axes - 1]
    layers = convolve(4, 3, activation, padding="same"), (nn.MaxPool1d, nn.MaxPool2d)[axes - 1](size)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dense(2))
    parameters, _ = start(model, x)

    def one_by_one(scope, x):
        for name, layer in zip(model.names, model.layers, strict=True):
            x = layer(scope.inside(name), x)
        return x

    results, neurons = [], []
    for function, watch in ((model, False), (model, True), (one_by_one, False), (one_by_one, True)):
        leaves = {name: ad.Tensor(array) for name, array in (parameters | {"x": x}).items()}
        call = nn.call_with(leaves, {}, draw, record_neurons=watch)
        output = function(nn.Scope(call), leaves["x"])
        results.append([output.value, *ad.pullback(output, np.ones(output.shape), [*leaves.values()])])
        neurons.append({path: [z.shape for z in zs] for path, zs in call.neurons.items()})
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    assert neurons == [{}, {f"conv{axes}d_1": [(3, *(1, *lengths)[-2:], 4)], "dense_1": [(3, 2)]}] * 2

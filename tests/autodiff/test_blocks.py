"""Blocks: whichever of their inputs are asked for, derivatives are those of the specification."""

import itertools

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.autodiff import blocks
from dbp.autodiff.blocks.activations import FUSED
from dbp.autodiff.tensor import PRIMITIVES

RNG = np.random.default_rng(3)
X, W, B = RNG.standard_normal((2, 6, 5, 3)), RNG.standard_normal((3, 2, 3, 4)), RNG.standard_normal(4)
ROWS, SCALE = RNG.standard_normal((4, 3)), RNG.standard_normal(3)
VOLUMES = np.random.default_rng(4).standard_normal((2, 4, 3, 2, 3))
WINDOW = ad.Window((3, 2), padding=((1, 1), (0, 1)))
PLAIN = {"window": WINDOW, "groups": 1, "relu_after": False, "pool": ()}
COUNTS = np.random.default_rng(5).integers(0, 3, (2, 6, 5)).astype(float)

# The block, what it is made of, its inputs, and its options.
CASES = {
    "dense": ("dense_block", [ROWS, W[0, 0], B], {"activation": "relu"}),
    "dense without bias": ("dense_block", [ROWS, W[0, 0], None], {"activation": "linear"}),
    "dense of positions": ("dense_block", [X, W[0, 0], B], {"activation": "linear"}),
    **{f"dense of positions with {name}": ("dense_block", [X, W[0, 0], B], {"activation": name}) for name in FUSED},
    "cross-entropy": ("cross_entropy_block", [ROWS], {"targets": np.array([0, 2, 1, 1])}),
    "squared error": ("squared_error_block", [ROWS, np.cos(ROWS)], {"axes": 1}),
    "squared error of elements": ("squared_error_block", [X, np.cos(X)], {"axes": 4}),
    "squared error of positions": ("squared_error_block", [X, np.cos(X)], {"axes": 2}),
    "normalize": ("normalize_block", [X, SCALE, SCALE[::-1].copy()], {"axes": (0, 1, 2), "epsilon": 0.1}),
    "normalize by weights": (
        "normalize_block",
        [X, SCALE, SCALE[::-1].copy()],
        {"axes": (0, 1, 2), "epsilon": 0.1, "weights": COUNTS[..., None]},
    ),
    "batch normalize": (
        "batch_normalize_block",
        [X, SCALE, SCALE[::-1].copy()],
        {"epsilon": 0.1, "moments": ad.channel_moments(X)},
    ),
    "batch normalize by weights, with ReLU": (
        "batch_normalize_block",
        [X, SCALE, SCALE[::-1].copy()],
        {"epsilon": 0.1, "moments": ad.channel_moments(X, COUNTS), "weights": COUNTS, "relu_after": True},
    ),
    "batch normalize by fixed moments, with ReLU": (
        "batch_normalize_block",
        [X, SCALE, SCALE[::-1].copy()],
        {"epsilon": 0.1, "moments": (SCALE - 1, SCALE**2), "fixed": True, "relu_after": True},
    ),
    "sum with ReLU": ("add_relu_block", [X, np.cos(X)], {}),
    "normalize by root mean square": ("rms_normalize_block", [X, SCALE], {"epsilon": 0.1}),
    "convolution": ("convolution_block", [X, W, B], PLAIN),
    "convolution without bias": ("convolution_block", [X, W, None], PLAIN | {"relu_after": True}),
    "convolution of volumes": (
        "convolution_block",
        [VOLUMES, np.sin(np.arange(36.0)).reshape(3, 2, 1, 3, 2), B[:2]],
        PLAIN | {"window": ad.Window((3, 2, 1), (2, 1, 1), ((2, 1), (0, 1), (1, 0)), (1, 2, 1)), "relu_after": True},
    ),
    "convolution in groups": (
        "convolution_block",
        [np.repeat(X, 2, axis=-1), W[:, :, :2, [0, 1, 2, 3, 0, 1]], B[[0, 1, 2, 3, 0, 1]]],
        PLAIN | {"groups": 3, "relu_after": True, "pool": (2, 2)},
    ),
    "depth-wise convolution": (
        "convolution_block",
        [X, W[:, :, :1, [0, 1, 2, 3, 0, 1]], B[[0, 1, 2, 3, 0, 1]]],
        PLAIN | {"window": ad.Window((3, 2), (2, 1), ((1, 1), (0, 1))), "groups": 3, "relu_after": True},
    ),
    "convolution of sequences": (
        "convolution_block",
        [X.reshape(2, 1, 30, 3), W.reshape(1, 6, 3, 4), B],
        PLAIN | {"window": ad.Window((1, 6), (1, 2), ((0, 0), (2, 3))), "relu_after": True, "pool": (1, 2)},
    ),
    "transposed convolution": (
        "transposed_convolution_block",
        [X, W[..., :3], B[:3]],
        {"window": ad.Window((3, 2), (2, 1), ((1, 1), (0, 1))), "image": (11, 5), "groups": 1},
    ),
    "transposed convolution in groups": (
        "transposed_convolution_block",
        [X, W[:, :, :1, :3], B[[0, 1, 2]]],
        {"window": ad.Window((3, 2), (1, 2), ((0, 0), (1, 0))), "image": (8, 9), "groups": 3},
    ),
    "convolution with pooling": ("convolution_block", [X, W, B], PLAIN | {"relu_after": True, "pool": (2, 2)}),
}
WINOGRAD = [RNG.standard_normal((4, 16, 16, 16)), RNG.standard_normal((3, 3, 16, 4)), RNG.standard_normal(4)]


def subsets(inputs):
    """Return every subset of the inputs to differentiate by."""
    there = [i for i, x in enumerate(inputs) if x is not None]
    return [chosen for n in range(1, len(there) + 1) for chosen in itertools.combinations(there, n)]


def of_chosen(function, inputs, chosen, options):
    """Return a scalar function of the chosen inputs alone, curved so that second derivatives are not zero."""

    def scalar(*values):
        given = list(inputs)
        for i, value in zip(chosen, values, strict=True):
            given[i] = value
        y = function(*given, **options)
        return ad.sum_(y * y * np.cos(np.arange(y.size if hasattr(y, "size") else np.prod(y.shape)).reshape(y.shape)))

    return scalar


PARTS = [(name, chosen) for name, (_, inputs, _) in CASES.items() for chosen in subsets(inputs)]


@pytest.mark.parametrize(("name", "chosen"), PARTS, ids=str)
def test_any_part_of_the_inputs_may_be_asked_for(name, chosen):
    block_name, inputs, options = CASES[name]
    getattr(blocks, block_name, None)  # some are imported when they are used
    block = PRIMITIVES[block_name]
    points, by = [inputs[i] for i in chosen], tuple(range(len(chosen)))
    fast = of_chosen(block, inputs, chosen, options)
    plain = of_chosen(block._function, inputs, chosen, options)
    for own, other in zip(ad.gradient(fast, by)(*points), ad.gradient(plain, by)(*points), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-10)
    directions = tuple(np.cos(point) for point in points)
    products = (ad.hessian_product(f, tuple(points), directions) for f in (fast, plain))
    for own, other in zip(*products, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-10)
    own, other = (ad.jvp(f, tuple(points), directions)[1] for f in (fast, plain))
    np.testing.assert_allclose(own, other, atol=1e-10)


@pytest.mark.parametrize("chosen", subsets(WINOGRAD), ids=str)
def test_any_part_may_be_asked_for_of_winograd_too(chosen):
    inputs = [array.astype(np.float32) for array in WINOGRAD]
    options = PLAIN | {"window": ad.Window((3, 3))}
    by, block = tuple(range(len(chosen))), PRIMITIVES["convolution_block"]
    points = [inputs[i] for i in chosen]
    fast = ad.gradient(of_chosen(block, inputs, chosen, options), by)(*points)
    plain = ad.gradient(of_chosen(block._function, inputs, chosen, options), by)(*points)
    for own, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-4 * np.abs(other).max())


LAYERS = {
    "conv2d": (nn.Conv2d(2, 3), (6, 6, 1)),
    "conv2d without bias": (nn.Conv2d(2, 3, bias=False), (6, 6, 1)),
    "conv1d": (nn.Conv1d(2, 3), (6, 2)),
    "conv2d and pooling": (nn.Sequential(nn.Conv2d(2, 3, "relu"), nn.MaxPool2d(2)), (6, 6, 1)),
    "dense": (nn.Dense(3, "relu"), (4,)),
    "layer_norm": (nn.LayerNorm(), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_by_inputs_alone_and_by_each_parameter_alone(name):
    layer, shape = LAYERS[name]
    x = RNG.standard_normal((2, *shape))
    parameters = nn.initial_parameters(layer, x, 0, "float64").parameters
    ad.check_derivatives(lambda x: layer(nn.use(parameters), x), x)
    for path, array in parameters.items():
        ad.check_derivatives(lambda p, path=path: layer(nn.use(parameters | {path: p}), x), array)
        ad.check_derivatives(lambda x, p, path=path: layer(nn.use(parameters | {path: p}), x), x, array)


def test_the_hessian_by_the_weights_of_a_convolution():
    def cost(x, w):
        return ad.sum_(ad.square(nn.Conv2d(2, 2)(nn.use({"weight": w, "bias": np.zeros(2)}), x)))

    x, w = RNG.standard_normal((2, 4, 4, 1)), RNG.standard_normal((2, 2, 1, 2))
    found, size = ad.hessian(cost, by=1)(x, w), w.size
    assert found.shape == w.shape * 2
    # The cost is quadratic in w: half of w H w is its value.
    assert w.reshape(-1) @ found.reshape(size, size) @ w.reshape(-1) / 2 == pytest.approx(float(cost(x, w)))


@pytest.mark.parametrize("types", [("f4", "f8"), ("f8", "f4"), ("i8", "f4")], ids=str)
def test_a_convolution_of_two_types_has_the_larger_one(types):
    x, w = np.round(4 * X).astype(types[0]), W.astype(types[1])
    y = ad.convolution_block(x, w, None, window=WINDOW)
    np.testing.assert_allclose(y, ad.convolve(x, w, window=WINDOW), rtol=1e-6)
    assert y.dtype == np.result_type(x, w)
    g = ad.gradient(lambda w: ad.sum_(ad.convolution_block(x, w, None, window=WINDOW)))(w)
    assert g.shape == w.shape


def test_pooling_too_large_for_the_fast_way_is_done_apart():
    x = RNG.standard_normal((2, 40, 34, 1))
    model = nn.Sequential(nn.Conv2d(2, 1, "relu", bias=False), nn.MaxPool2d(16))
    w = np.array([1.0, -1.0]).reshape(1, 1, 1, 2)
    y = model(nn.use({"conv2d_1/weight": w}), x)
    cells = np.maximum(x * w[0, 0], 0)[:, :32, :32].reshape(2, 2, 16, 2, 16, 2)
    np.testing.assert_array_equal(y, cells.max(axis=(2, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 784])
def test_the_squared_error_of_a_row_depends_on_its_own_numbers_alone(width, dtype):
    outputs, targets = np.random.default_rng(0).standard_normal((2, 300, width)).astype(dtype)
    outputs[[3, 5], 0] = np.nan, np.inf
    losses = ad.squared_error_block(outputs, targets, axes=1)
    wide = np.square(outputs.astype(np.float64) - targets).mean(axis=1)
    np.testing.assert_allclose(losses, wide, rtol=8 * np.finfo(dtype).eps)
    alone = [ad.squared_error_block(outputs[i : i + 1], targets[i : i + 1], axes=1)[0] for i in range(300)]
    np.testing.assert_array_equal(losses, alone)

"""Masks of positions: what is filled in has no influence, and each sequence gives what it gives alone."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.errors import UserError
from dbp.nn.masks import mask_after_window
from dbp.reading.shard import Shard
from tests.autodiff.derivatives import smooth_gradient
from tests.nn.models import DRAW, cost_of, inputs, start

LENGTHS = np.array([8, 5, 1, 3, 6])
MASK = np.arange(8) < LENGTHS[:, None]
X = inputs(5, 8, 4)
TAIL = (nn.GlobalAveragePool(), nn.Dense(3))
# Models of sequences (length, 4), without layers that normalize by a shard.
MODELS = {
    "gru": (nn.GRU(3, sequences=False), nn.Dense(3)),
    "lstm": (nn.LSTM(3, sequences=False), nn.Dense(3)),
    "both ways": (nn.LSTM(2, layers=2, bidirectional=True), nn.GRU(3, sequences=False, bidirectional=True)),
    "recurrent sequences": (nn.LSTM(3), nn.GRU(3, sequences=False)),
    "attention": (nn.Position(length=9), nn.Attention(2), nn.Attention(2, causal=True), *TAIL),
    "average pool": TAIL,
    "max pool": (nn.Dense(3, "tanh"), nn.GlobalMaxPool()),
    "dense": (nn.Dense(4, "gelu"), nn.LayerNorm(), nn.PReLU(), nn.RMSNorm(), nn.Activation("silu"), *TAIL),
    "fourier_features": (nn.FourierFeatures([[0.1, 0.2, 0.0, 0.3]]), nn.Dense(3), *TAIL),
    "conv1d": (nn.Conv1d(4, 3, "tanh", padding="same"), nn.Conv1d(3, 2, "relu", padding=1, dilation=2), *TAIL),
    "conv1d strided": (nn.Conv1d(4, 2, "tanh", padding="same", stride=2), *TAIL),
    "conv1d valid": (nn.Conv1d(4, 3, padding=1, stride=2), nn.Conv1d(4, 1, "tanh"), nn.GlobalMaxPool()),
    "conv1d causal": (nn.Conv1d(4, 3, "tanh", padding="causal", dilation=2), *TAIL),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 3, "tanh", 2), nn.ConvTranspose1d(4, 2, padding="same"), *TAIL),
    "conv_transpose1d cut": (nn.ConvTranspose1d(4, 4, "tanh", 3, padding=1, output_padding=2), *TAIL),
    "conv_transpose1d with gaps": (nn.ConvTranspose1d(4, 2, "softplus", 4), *TAIL),
    "conv_transpose1d with gaps and the same padding": (nn.ConvTranspose1d(4, 2, "elu", 3, "same"), *TAIL),
    "upsample": (nn.Upsample(3), nn.Conv1d(4, 2, padding="same"), *TAIL),
    "upsample linear": (nn.Upsample(3, "linear"), nn.Conv1d(4, 2, "tanh", padding="same"), *TAIL),
    "max_pool1d": (nn.MaxPool1d(2, 1, padding=1), nn.MaxPool1d(2, 2, padding="same"), *TAIL),
    "average_pool1d": (nn.AveragePool1d(3, 1, padding=1), nn.AveragePool1d(2, 2, padding="same"), *TAIL),
    "group_norm": (nn.GroupNorm(2), *TAIL),
    "residual": (nn.Residual((nn.Conv1d(4, 3, padding="same"),), activation="relu"), nn.GRU(3, sequences=False)),
    "residual shortcut": (
        nn.Residual((nn.Conv1d(6, 2, stride=2, padding="same"),), (nn.Conv1d(6, 1, stride=2),)),
        *TAIL,
    ),
    "recompute": (nn.Recompute((nn.Conv1d(4, 3, padding="same"), nn.GRU(3))), *TAIL),
    "reshape": (nn.Reshape((-1, 2, 2)), nn.GroupNorm(2), *TAIL),
}
TRAINED = MODELS | {
    "batch_norm": (nn.Conv1d(4, 3, padding="same"), nn.BatchNorm(), nn.GRU(3, sequences=False)),
    "batch_norm strided": (nn.Conv1d(4, 2, stride=2), nn.BatchNorm(), *TAIL),
    "dropout": (nn.Dropout(0.2), nn.GaussianNoise(0.1), nn.Cutout(2), nn.GRU(3, sequences=False)),
    "flatten": (nn.Flatten(), nn.Dense(3)),
}


def filled(fill):
    return np.where(MASK[:, :, None], X, fill)


@pytest.mark.parametrize("name", MODELS)
def test_each_sequence_gives_what_it_gives_alone(name):
    model = nn.Sequential(*MODELS[name])
    parameters, _ = start(model, X)
    got = model(nn.use(parameters, {}, mask=MASK), filled(7.0))
    for one, length, result in zip(X, LENGTHS, got, strict=True):
        try:
            alone = model(nn.use(parameters), one[None, :length])[0]
        except UserError:
            assert length < 2, "a window is longer than the sequence"
            continue
        np.testing.assert_allclose(result, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_more_filling_changes_nothing(name):
    model = nn.Sequential(*MODELS[name])
    parameters, _ = start(model, X)
    longer, mask = np.pad(filled(3.0), [(0, 0), (0, 2), (0, 0)]), np.pad(MASK, [(0, 0), (0, 2)])
    model = nn.Sequential(*(nn.Position(length=9) if isinstance(one, nn.Position) else one for one in MODELS[name]))
    if name == "attention":
        longer, mask = longer[:, :9], mask[:, :9]
    got = model(nn.use(parameters, {}, mask=mask), longer)
    np.testing.assert_allclose(got, model(nn.use(parameters, {}, mask=MASK), X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("draw", [None, DRAW], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", TRAINED)
def test_what_is_filled_in_changes_no_bit(name, draw):
    model = nn.Sequential(*TRAINED[name])
    parameters, running = start(model, X)

    def everything(x):
        leaves = {path: ad.Tensor(array) for path, array in parameters.items()}
        call = nn.call_with(leaves, running, draw, mask=MASK)
        outputs = model(nn.Scope(call), x)
        gradients = ad.pullback(outputs, np.ones_like(outputs.value), [*leaves.values()])
        moments = [array for m in call.observed.values() for array in (m.mean, m.variance, np.array(m.count))]
        return [outputs.value, *gradients, *moments]

    expected = everything(filled(0.0))
    for fill in (5.0, -1e3):
        for got, before in zip(everything(filled(fill)), expected, strict=True):
            np.testing.assert_array_equal(got, before)


@pytest.mark.parametrize("name", TRAINED)
def test_derivatives_of_both_orders(name):
    model = nn.Sequential(*TRAINED[name])
    parameters, running = start(model, X)

    def function(*arrays):
        found = dict(zip(parameters, arrays, strict=True))
        return model(nn.Scope(nn.call_with(found, running, DRAW, mask=MASK)), X)

    points = [*parameters.values()]
    if points:
        ad.check_derivatives(function, *points)
        ad.check_derivatives(smooth_gradient(function), *points, tolerance=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_cost_gradient_and_curvature_have_the_same_bits_with_any_fill(name):
    model, y = nn.Sequential(*TRAINED[name]), np.arange(5) % 3
    found = []
    for fill in (0.0, 9.0):
        cost, w, _ = cost_of(model, nn.CrossEntropy(), filled(fill), y)
        batch = [Shard(0, filled(fill), y, None, MASK)]
        cost = MiniBatchCost(cost.objective, batch, 0)
        v = np.random.default_rng(2).standard_normal(len(w))
        evaluation = cost.value_and_gradient(w)
        found.append([evaluation.cost, evaluation.gradient.copy(), evaluation.moments])
        curvature = cost.curvature(w)
        found[-1] += [curvature.hessian_product(v).copy(), curvature.gauss_newton_product(v).copy()]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_embedding_takes_any_number_in_masked_positions():
    model = nn.Sequential(nn.Embedding(6, 4), nn.GRU(3, sequences=False))
    words = np.random.default_rng(1).integers(0, 6, (5, 8))
    parameters, _ = start(model, words)
    expected = model(nn.use(parameters, {}, mask=MASK), np.where(MASK, words, 0))
    np.testing.assert_array_equal(model(nn.use(parameters, {}, mask=MASK), np.where(MASK, words, -7)), expected)


def test_batch_norm_counts_valid_positions_alone():
    parameters, running = start(nn.BatchNorm(), X)
    call = nn.call_with(parameters, running, DRAW, mask=MASK)
    y = nn.BatchNorm()(nn.Scope(call), X)
    (moments,) = call.observed.values()
    valid = X[MASK]
    np.testing.assert_allclose(moments.mean, valid.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, valid.var(axis=0), rtol=1e-12)
    assert moments.count == MASK.sum()
    normal = (y[MASK] - parameters["shift"]) / parameters["scale"]
    np.testing.assert_allclose([normal.mean(), normal.var()], [0, 1], atol=1e-4)


def test_batch_norm_with_example_weights_and_positions():
    weights = np.array([1.0, 2.0, 0.0, 1.0, 0.5])
    parameters, running = start(nn.BatchNorm(), X)
    call = nn.call_with(parameters, running, DRAW, example_weights=weights, mask=MASK)
    nn.BatchNorm()(nn.Scope(call), X)
    (moments,) = call.observed.values()
    each = (weights[:, None] * MASK)[..., None]
    np.testing.assert_allclose(moments.mean, (each * X).sum(axis=(0, 1)) / each.sum(), rtol=1e-12)


def test_images_with_masked_pixels():
    x, mask = inputs(3, 6, 5, 2), np.random.default_rng(3).random((3, 6, 5)) < 0.7
    model = nn.Sequential(
        nn.Conv2d(4, 3, "relu", padding="same"),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(4, 2),
        nn.SeparableConv2d(4, 2),
        nn.Upsample(2, "bilinear"),
        nn.BatchNorm(),
        nn.GroupNorm(2),
        nn.GlobalMaxPool(),
    )
    parameters, running = start(model, x)
    got = [model(nn.use(parameters, running, DRAW, mask=mask), np.where(mask[..., None], x, fill)) for fill in (0, 8.0)]
    np.testing.assert_array_equal(*got)


def test_an_example_without_any_position_gives_finite_numbers():
    mask = MASK.copy()
    mask[2] = False
    for name, layers in TRAINED.items():
        model = nn.Sequential(*layers)
        parameters, running = start(model, X)
        y = model(nn.use(parameters, running, DRAW, mask=mask), filled(0.0))
        assert np.isfinite(y).all(), name


@pytest.mark.parametrize(
    ("window", "same", "expected"),
    [
        (ad.Window((1, 3), (1, 1), ((0, 0), (1, 1))), True, "11111000"),
        (ad.Window((1, 3), (1, 2), ((0, 0), (0, 1))), True, "1110"),
        (ad.Window((1, 3)), False, "111000"),
        (ad.Window((1, 3), (1, 2)), False, "110"),
        (ad.Window((1, 2), (1, 1), ((0, 0), (1, 1))), False, "111111000"),
        (ad.Window((1, 2), (1, 1), ((0, 0), (0, 0)), (1, 3)), False, "11000"),
    ],
)
def test_the_mask_after_a_window_is_that_of_the_sequence_alone(window, same, expected):
    mask = (np.arange(8) < 5)[None, None]
    found = mask_after_window(mask, window, same)[0, 0]
    assert "".join("01"[int(one)] for one in found) == expected


class Own:
    kind = "own"

    def __call__(self, scope, x):
        return x + scope.parameter("weight", (1,))


def test_layers_that_do_not_say_what_they_do_with_positions_are_refused():
    message = "own_1: does not take inputs with masked positions, .* declare keeps_positions = True"
    with pytest.raises(UserError, match=message):
        nn.Sequential(Own())(nn.use({"own_1/weight": np.ones(1)}, mask=MASK), X)
    declared = type("Declared", (Own,), {"keeps_positions": True})()
    nn.Sequential(declared, *TAIL[:1])(nn.use({"own_1/weight": np.ones(1)}, mask=MASK), X)
    with pytest.raises(UserError, match="random_shift_1: does not take inputs with masked positions"):
        nn.Sequential(nn.RandomShift(1))(nn.use({}, mask=MASK), X)
    message = r"dense_1: takes \(positions \.\.\., channels\) per example, and the mask has shape \(8,\), but its "
    with pytest.raises(UserError, match=message):
        nn.Sequential(nn.Dense(3))(nn.use({}, mask=MASK), X[..., 0])
    with pytest.raises(
        UserError, match=r"shape \(-1, 3\) holds a multiple of 3 numbers per example, but its inputs have"
    ):
        nn.Sequential(nn.Reshape((-1, 3)))(nn.use({}, mask=MASK), X)

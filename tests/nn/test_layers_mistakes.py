"""Mistakes in layers: wrong settings, shapes and weights, each named."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.config.toml import to_toml
from dbp.errors import UserError
from tests.nn.models import inputs, run, start


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
        (
            lambda: nn.Conv2d(4, 3, padding="causal"),
            "padding 'causal' is for conv1d alone, whose positions have an order",
        ),
        (lambda: nn.Conv1d(4, 3, padding="casual"), "unknown padding 'casual'; did you mean 'causal'"),
        (lambda: nn.Conv3d(4, (3, 3)), r"size must be a whole number or three, but is \(3, 3\)"),
        (lambda: nn.Conv3d(4, 3, groups=3), r"filters must be a multiple of groups \(3\), but are 4"),
        (lambda: nn.MaxPool3d(2, padding=2), "padding must be smaller than size, but is 2"),
        (lambda: nn.ConvTranspose1d(4, 3, groups=3), r"filters must be a multiple of groups \(3\), but are 4"),
        (lambda: nn.ConvTranspose1d(4, 3, output_padding=-1), "output_padding must be at least 0, but is -1"),
        (
            lambda: nn.ConvTranspose2d(4, 3, padding="same", output_padding=1),
            "output_padding must be 0 with padding 'same'",
        ),
        (lambda: nn.SeparableConv2d(4, 3, multiplier=0), "multiplier must be at least 1, but is 0"),
        (lambda: nn.SeparableConv2d(4, 3, padding="causal"), "padding 'causal' is for conv1d alone"),
        (lambda: nn.Upsample(0), "factor must be at least 1, but is 0"),
        (lambda: nn.Upsample(1.5), r"factor must be a whole number, or a list of 1 or 2 or 3 of them, but is 1\.5"),
        (lambda: nn.Upsample((2, 2, 2), "bilinear"), "factor must be a whole number, or a list of 2 of them, but is"),
        (lambda: nn.Upsample(2, "cubic"), "unknown method 'cubic'; valid: bilinear, linear, nearest, trilinear"),
        (lambda: nn.PReLU(initializer="quarter"), "unknown initializer 'quarter'; did you mean 'quarters'"),
        (lambda: nn.RMSNorm(epsilon=0.0), "epsilon must be a positive number, but is 0.0"),
        (lambda: nn.ConvTranspose2d(4, 3, stride=0), "stride must be at least 1, but is 0"),
        (lambda: nn.MaxPool2d(0), "size must be at least 1, but is 0"),
        (lambda: nn.MaxPool2d(2, 0), "stride must be at least 1, but is 0"),
        (lambda: nn.AveragePool1d(2, padding="Same"), "unknown padding 'Same'; did you mean 'same'"),
        (lambda: nn.MaxPool2d(2, padding=2), "padding must be smaller than size, but is 2"),
        (lambda: nn.AveragePool2d((3, 1), padding=1), "padding must be smaller than size, but is 1"),
        (lambda: nn.AveragePool1d(2, padding=3), "padding must be smaller than size, but is 3"),
        (lambda: nn.BatchNorm(decay=1.0), "decay must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.BatchNorm(epsilon=0.0), "epsilon must be a positive number, but is 0.0"),
        (lambda: nn.LayerNorm(epsilon=-1.0), "epsilon must be a positive number, but is -1.0"),
        (lambda: nn.GroupNorm(0), "groups must be at least 1, but is 0"),
        (lambda: nn.Dropout(1.0), "rate must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.Dropout(-0.1), "rate must be at least 0 and below 1, but is -0.1"),
        (lambda: nn.RandomFlip("left"), "unknown axis 'left'; valid: both, horizontal, vertical"),
        (lambda: nn.RandomShift(-1), "size must be at least 0, but is -1"),
        (lambda: nn.RandomCrop(0), "size must be at least 1, but is 0"),
        (lambda: nn.RandomRotation(-5.0), "degrees must be 0 or a positive number, but is -5.0"),
        (lambda: nn.GaussianNoise(-0.1), "deviation must be 0 or a positive number, but is -0.1"),
        (lambda: nn.Cutout((2, 0)), "size must be at least 1, but is 0"),
        (lambda: nn.Mixup(0.0), "alpha must be a positive number, but is 0.0"),
        (lambda: nn.Embedding(0, 2), "entries must be at least 1, but is 0"),
        (lambda: nn.Embedding(3, 0), "units must be at least 1, but is 0"),
        (lambda: nn.Position("norml"), "unknown initializer 'norml'; did you mean 'normal'"),
        (lambda: nn.Position(length=0), "length must be at least 1, but is 0"),
        (lambda: nn.GRU(0), "units must be at least 1, but is 0"),
        (lambda: nn.LSTM(2, recurrent_initializer="ortho"), "unknown initializer 'ortho'"),
        (lambda: nn.Attention(0), "heads must be at least 1, but is 0"),
        (lambda: nn.Reshape((3, 0)), r"shape must be positive lengths, and one -1 at most, but is \[3, 0\]"),
        (lambda: nn.Reshape((-1, -1)), r"shape must be positive lengths, and one -1 at most, but is \[-1, -1\]"),
        (lambda: nn.Reshape(()), r"shape must be positive lengths, and one -1 at most, but is \[\]"),
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
        ([nn.SeparableConv2d(2, 3)], (8, 8), r"separable_conv2d_1: takes \(height, width, channels\)"),
        (
            [nn.SeparableConv2d(2, 9)],
            (8, 8, 1),
            "separable_conv2d_1: a window of size 9 does not fit its inputs of 8 x 8; size must be at most 8",
        ),
        (
            [nn.Upsample(2)],
            (8,),
            r"upsample_1: takes \(length, channels\), \(height, width, channels\) or .*shape \(8,\)",
        ),
        (
            [nn.Upsample(2, "bilinear")],
            (8, 2),
            "upsample_1: method 'bilinear' is for images, .* are sequences .*'linear'",
        ),
        (
            [nn.Upsample((2, 2))],
            (8, 2),
            r"upsample_1: factor must be one number or 1 for inputs .*but is \(2, 2\)",
        ),
        ([nn.ConvTranspose2d(2, 3, padding=3)], (3, 3, 1), "conv_transpose2d_1: padding 3 takes away all"),
        (
            [nn.ConvTranspose1d(2, 3, stride=2, output_padding=2)],
            (5, 2),
            "conv_transpose1d_1: output_padding must be sma",
        ),
        (
            [nn.ConvTranspose1d(2, 2, groups=2)],
            (5, 3),
            r"conv_transpose1d_1: channels must be a multiple of groups \(2\)",
        ),
        (
            [nn.ConvTranspose1d(2, 3, padding=4)],
            (3, 1),
            "conv_transpose1d_1: padding 4 takes .* for inputs of 3; choose",
        ),
        (
            [nn.Conv3d(2, 3)],
            (8, 8, 1),
            r"conv3d_1: takes \(depth, height, width, channels\) per example, .*\(8, 8, 1\)",
        ),
        (
            [nn.Conv3d(2, 3)],
            (8, 8, 2, 1),
            "conv3d_1: .* size 3 does not fit its inputs of 8 x 8 x 2; size must be at mo",
        ),
        ([nn.MaxPool3d(2)], (8, 8, 1), r"max_pool3d_1: takes \(depth, height, width, channels\)"),
        ([nn.MaxPool2d(2)], (8, 8), r"max_pool2d_1: takes \(height, width, channels\)"),
        ([nn.AveragePool1d(2)], (8, 8, 1), r"average_pool1d_1: takes \(length, channels\)"),
        ([nn.GlobalAveragePool()], (8,), r"global_average_pool_1: takes \(positions \.\.\., channels\)"),
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
            r"residual_1: the layers return \(4,\) per example, but the shortcut returns \(8,\)",
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


def test_weights_that_do_not_fit_positions_are_refused():
    def check(shape, positions):
        loss, outputs = (nn.MeanSquaredError(), positions) if positions else (nn.CrossEntropy(), (3,))
        nn.check_targets(loss, np.zeros((6, *positions), int), np.zeros(shape), outputs)

    for shape, positions in (((6, 4), (5,)), ((6, 5, 2), (5,)), ((6, 2), ())):
        with pytest.raises(UserError, match="weights must be one number per example"):
            check(shape, positions)
    for shape, positions in (((6,), (5,)), ((6, 5), (5,)), ((6,), ())):
        check(shape, positions)

"""Weights of real PyTorch modules, saved as safetensors, give in dbp what they give in PyTorch."""

import re

import numpy as np
import pytest

from dbp import nn
from dbp.config.from_table import settings_from
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.errors import UserError
from dbp.exchange.pytorch import rules_of
from dbp.nn import as_model
from tests.exchange.torch_import import compare, imported, randomized, safetensors, torch
from tests.jobs import dbp


class Last(torch.nn.Module):
    """A recurrent module that returns its last states, or all of them."""

    def __init__(self, inner, last):
        super().__init__()
        self.inner, self.last = inner, last

    def forward(self, x):
        y, state = self.inner(x)
        last = (state[0] if isinstance(state, tuple) else state)[-1 - self.inner.bidirectional :]
        return torch.cat([*last], dim=-1) if self.last else y


class Self(torch.nn.Module):
    """Self-attention."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Block(torch.nn.Module):
    def __init__(self, main, shortcut):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x):
        return torch.relu(self.main(x) + self.shortcut(x))


class Turned(torch.nn.Module):
    """A module that takes the channels last, and gives them first again, or leaves them last."""

    def __init__(self, inner, back):
        super().__init__()
        self.inner, self.back = inner, back

    def forward(self, x):
        y = self.inner(x.movedim(1, -1))
        return y.movedim(-1, 1) if self.back else y


t = torch.nn
IMAGE = (8, 6, 3)


def test_rows(tmp_path):
    module = t.Sequential(t.Linear(6, 5), t.BatchNorm1d(5), t.ReLU(), t.Linear(5, 4, bias=False), t.LayerNorm(4))
    layers = [nn.Dense(5), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(4, bias=False), nn.LayerNorm()]
    names = ["0=dense_1", "1=batch_norm_1", "3=dense_2", "4=layer_norm_1"]
    compare(module, layers, (6,), names, tmp_path)


def test_images(tmp_path):
    module = t.Sequential(
        t.Conv2d(3, 6, 3, stride=2, padding=1, groups=3),
        t.GroupNorm(2, 6),
        t.Conv2d(6, 4, (2, 1), dilation=(1, 2)),
        t.ConvTranspose2d(4, 5, 3, stride=2),
        t.BatchNorm2d(5),
    )
    layers = [
        nn.Conv2d(6, 3, stride=2, padding=1, groups=3),
        nn.GroupNorm(2),
        nn.Conv2d(4, (2, 1), dilation=(1, 2)),
        nn.ConvTranspose2d(5, 3, stride=2),
        nn.BatchNorm(),
    ]
    names = ["0=conv2d_1", "1=group_norm_1", "2=conv2d_2", "3=conv_transpose2d_1", "4=batch_norm_1"]
    compare(module, layers, IMAGE, names, tmp_path)


def test_sequences_and_volumes(tmp_path):
    """Import transposed convolutions too, whose kernels PyTorch has with the channels of the inputs first."""
    module = t.Sequential(
        t.Conv1d(6, 4, 3, groups=2), t.ConvTranspose1d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2)
    )
    layers = [nn.Conv1d(4, 3, groups=2)]
    layers.append(nn.ConvTranspose1d(6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2))
    compare(module, layers, (9, 6), ["0=conv1d_1", "1=conv_transpose1d_1"], tmp_path)
    module = t.Sequential(
        t.Conv3d(3, 4, (3, 2, 1)), t.MaxPool3d(2), t.ConvTranspose3d(4, 2, 2), t.Flatten(), t.Linear(54, 5)
    )
    layers = [nn.Conv3d(4, (3, 2, 1)), nn.MaxPool3d(2), nn.ConvTranspose3d(2, 2), nn.Flatten(), nn.Dense(5)]
    names = ["0=conv3d_1", "2=conv_transpose3d_1", "4=dense_1"]
    compare(module, layers, (6, 6, 4, 3), names, tmp_path)


class Separable(t.Module):
    """The two convolutions of a separable one."""

    def __init__(self, channels, multiplier, filters):
        super().__init__()
        self.depthwise = t.Conv2d(channels, multiplier * channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = t.Conv2d(multiplier * channels, filters, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


@pytest.mark.parametrize("shared", [True, False])
def test_separable_upsampled_and_with_slopes(tmp_path, shared):
    """Put the slopes of flattened images in dbp's order."""
    module = t.Sequential(
        Separable(3, 2, 4), t.PReLU(1 if shared else 4), t.Upsample(scale_factor=2, mode="bilinear"),
        t.MaxPool2d(3), t.Flatten(), t.PReLU(1 if shared else 80), t.RMSNorm(80, eps=1e-6), t.Linear(80, 5),
    )  # fmt: skip
    layers = [
        nn.SeparableConv2d(4, 3, padding=1, multiplier=2), nn.PReLU(shared), nn.Upsample(2, "bilinear"),
        nn.MaxPool2d(3), nn.Flatten(), nn.PReLU(shared), nn.RMSNorm(), nn.Dense(5),
    ]  # fmt: skip
    names = ["0=separable_conv2d_1", "1=prelu_1", "5=prelu_2", "6=rms_norm_1", "7=dense_1"]
    compare(module, layers, IMAGE, names, tmp_path)


def test_flattened_images_meet_their_weights(tmp_path):
    """PyTorch flattens channels first, so the rows of the next weights are reordered."""
    module = t.Sequential(
        t.Conv2d(3, 4, 3), t.MaxPool2d(2), t.Flatten(), t.BatchNorm1d(24), t.LayerNorm(24), t.ReLU(), t.Linear(24, 5)
    )
    layers = [
        nn.Conv2d(4, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.BatchNorm(),
        nn.LayerNorm(),
        nn.Activation("relu"),
        nn.Dense(5),
        nn.Dense(2),
    ]
    module.append(t.Linear(5, 2))
    names = ["0=conv2d_1", "3=batch_norm_1", "4=layer_norm_1", "6=dense_1", "7=dense_2"]
    compare(module, layers, IMAGE, names, tmp_path)


def test_flattened_sequences_meet_their_weights(tmp_path):
    module = t.Sequential(t.Conv1d(6, 4, 3), t.AvgPool1d(2), t.Flatten(), t.Linear(12, 5))
    layers = [nn.Conv1d(4, 3), nn.AveragePool1d(2), nn.Flatten(), nn.Dense(5)]
    compare(module, layers, (9, 6), ["0=conv1d_1", "3=dense_1"], tmp_path)
    module = t.Sequential(Last(t.GRU(6, 4, batch_first=True), last=False), t.Flatten(), t.Linear(36, 5))
    layers = [nn.GRU(4), nn.Flatten(), nn.Dense(5)]
    compare(module, layers, (9, 6), ["0.inner=gru_1", "2=dense_1"], tmp_path, channels_last=True)


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("images", [True, False])
def test_channels_that_are_turned_for_a_layer(tmp_path, back, images):
    """Take from the user what weights do not tell: whether the axes are turned back after it."""
    first = t.Conv2d(3, 4, 3) if images else t.Conv1d(6, 4, 3)
    shape, size = ((4, 5, 3), 24) if images else ((9, 6), 28)
    module = t.Sequential(first, Turned(t.LayerNorm(4), back), t.Flatten(), t.Linear(size, 5))
    layers = [nn.Conv2d(4, 3) if images else nn.Conv1d(4, 3), nn.LayerNorm(), nn.Flatten(), nn.Dense(5)]
    names = [f"0={layers[0].kind}_1", "1.inner=layer_norm_1", "3=dense_1"]
    with pytest.raises(UserError, match=r"flatten_1: .* is not known; say .* --channels first or --channels last"):
        imported(module, layers, shape, names, tmp_path)
    with pytest.raises(UserError, match="unknown position of channels 'back'"):
        imported(module, layers, shape, names, tmp_path, channels="back")
    compare(module, layers, shape, names, tmp_path, channels="first" if back else "last")


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv1d(4, 3), nn.Dense(3), nn.Flatten(), nn.Dense(2)], (9, 6)),
        ([nn.Conv1d(4, 3), nn.GRU(3), nn.Flatten(), nn.Dense(2)], (9, 6)),
        ([nn.GRU(3), nn.BatchNorm(), nn.Flatten(), nn.Dense(2)], (9, 6)),
        ([nn.Embedding(9, 3), nn.Conv1d(4, 3), nn.Flatten(), nn.Dense(2)], (9,)),
        ([nn.Conv1d(4, 3), nn.LayerNorm(), nn.Conv1d(4, 3), nn.Reshape((20,)), nn.Dense(2)], (9, 6)),
        ([nn.Conv2d(4, 3), nn.Dense(3), nn.Activation("relu"), nn.Flatten(), nn.Dense(2)], IMAGE),
    ],
)
def test_layers_that_take_other_axes_leave_the_order_open(layers, shape):
    model = as_model(layers)
    initial = nn.initial_parameters(model, np.zeros((2, *shape), int if len(shape) == 1 else float), 0)
    with pytest.raises(UserError, match=r"(flatten|reshape)_1: .* is not known; say"):
        rules_of(model, initial, shape)
    assert set(rules_of(model, initial, shape, "last")) >= {"dense_1/weight"}


@pytest.mark.parametrize("last", [True, False])
def test_recurrent_layers(tmp_path, last):
    module = t.Sequential(
        Last(t.GRU(6, 5, batch_first=True), False), Last(t.LSTM(5, 4, batch_first=True), last), t.Linear(4, 3)
    )
    layers = [nn.GRU(5), nn.LSTM(4, sequences=not last), nn.Dense(3)]
    names = ["0.inner=gru_1", "1.inner=lstm_1", "2=dense_1"]
    compare(module, layers, (7, 6), names, tmp_path, channels_last=True)
    first = t.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    second = t.LSTM(10, 4, bidirectional=True, batch_first=True)
    module = t.Sequential(Last(first, False), Last(second, last), t.Linear(8, 3))
    layers = [nn.GRU(5, layers=2, bidirectional=True), nn.LSTM(4, not last, bidirectional=True), nn.Dense(3)]
    compare(module, layers, (7, 6), names, tmp_path, channels_last=True)


@pytest.mark.parametrize("bias", [True, False])
def test_attention(tmp_path, bias):
    module = t.Sequential(Self(t.MultiheadAttention(6, 2, bias=bias, batch_first=True)), t.Linear(6, 2))
    layers = [nn.Attention(2, bias=bias), nn.Dense(2)]
    compare(module, layers, (7, 6), ["0.inner=attention_1", "1=dense_1"], tmp_path, channels_last=True)


def test_embedding(tmp_path):
    module = randomized(t.Sequential(t.Embedding(11, 5), t.Linear(5, 2)))
    weights = imported(module, [nn.Embedding(11, 5), nn.Dense(2)], (7,), ["0=embedding_1", "1=dense_1"], tmp_path)
    np.testing.assert_array_equal(weights["embedding_1/weight"], module[0].weight.detach().numpy())


def test_blocks_by_patterns(tmp_path):
    """A few patterns rename many layers, and the shortcut has a path of its own."""
    blocks = [
        Block(t.Sequential(t.Conv2d(c, 4, 3, padding=1), t.BatchNorm2d(4)), t.Sequential(t.Conv2d(c, 4, 1)))
        for c in (3, 4)
    ]
    module = t.Sequential()
    for number, block in enumerate(blocks, 1):
        module.add_module(f"block{number}", block)
    layers = [
        nn.Residual([nn.Conv2d(4, 3, padding=1), nn.BatchNorm()], [nn.Conv2d(4, 1)], "relu"),
        nn.Recompute([nn.Residual([nn.Conv2d(4, 3, padding=1), nn.BatchNorm()], [nn.Conv2d(4, 1)], "relu")]),
    ]
    names = [
        "block2.main.0=recompute_1/residual_1/conv2d_1",
        "block2.main.1=recompute_1/residual_1/batch_norm_1",
        "block2.shortcut.0=recompute_1/residual_1/shortcut/conv2d_1",
        "block*.main.0=residual_*/conv2d_1",
        "block*.main.1=residual_*/batch_norm_1",
        "block*.shortcut.0=residual_*/shortcut/conv2d_1",
    ]
    compare(module, layers, IMAGE, names, tmp_path)


# --- refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Dense(24), nn.Reshape((2, 3, 4)), nn.Conv2d(2, 2)],
        [nn.Dense(24), nn.Reshape((2, 3, 4)), nn.Flatten(), nn.Residual([nn.Dense(24)])],
        [nn.Dense(24), nn.Reshape((6, 4)), nn.Conv1d(2, 2)],
    ],
)
def test_numbers_whose_order_cannot_be_known(tmp_path, layers):
    with pytest.raises(UserError, match=r"(reshape|conv1d)_1: weights of PyTorch around a .* cannot be put in order"):
        imported(t.Linear(6, 24), layers, (6,), ["weight=dense_1/weight"], tmp_path)


def test_a_shortcut_around_flattened_images_is_refused(tmp_path):
    layers = [nn.Conv2d(2, 3), nn.Flatten(), nn.Residual([nn.Dense(48)])]
    with pytest.raises(UserError, match=r"residual_1: weights of PyTorch around a residual"):
        imported(t.Linear(6, 24), layers, IMAGE, [], tmp_path)


def test_a_channel_of_one_needs_no_order(tmp_path):
    module = t.Sequential(t.Linear(48, 48), t.Unflatten(1, (1, 8, 6)), t.Conv2d(1, 2, 3))
    compare(
        module, [nn.Dense(48), nn.Reshape((8, 6, 1)), nn.Conv2d(2, 3)], (48,), ["0=dense_1", "2=conv2d_1"], tmp_path
    )


def test_what_is_missing_and_left_over_is_told(tmp_path):
    layers = [nn.Dense(5), nn.BatchNorm(), nn.Dense(4)]
    module = t.Sequential(t.Linear(6, 5), t.BatchNorm1d(5), t.Linear(5, 3))
    with pytest.raises(UserError) as caught:
        imported(module, layers, (6,), ["0=dense_1", "2=dense_2"], tmp_path)
    message = re.sub(r"^.*do not fit the config's model: ", "", str(caught.value))
    assert "missing: batch_norm_1/weight, batch_norm_1/bias, batch_norm_1/running_mean" in message
    assert "unexpected: 1.bias, 1.running_mean, 1.running_var, 1.weight" in message
    assert "num_batches_tracked" not in message
    assert "2.weight (3, 5) for dense_2/weight (5, 4)" in message


def test_from_the_command_line(tmp_path):
    module = randomized(t.Sequential(t.Flatten(), t.Linear(64, 10)))
    safetensors.save_file(module.state_dict(), tmp_path / "weights.safetensors")
    settings = settings_from(
        {
            "model": {"layers": [{"kind": "flatten"}, {"kind": "dense", "units": 10}]},
            "loss": "cross_entropy",
            "data": {"train": "dbp:digits-train"},
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            "epochs": 1,
            "batch_size": 50,
        }
    )
    (tmp_path / "config.toml").write_text(to_toml(table_from(settings)))
    words = ("import", tmp_path / "weights.safetensors", tmp_path / "config.toml", tmp_path / "out.h5")
    outcome = dbp(*words, "--from", "pytorch", "--rename", "1=dense_1")
    assert outcome.code == 0, outcome.text
    assert dbp("eval", tmp_path / "out.h5", "dbp:digits-test").code == 0
    wrong = dbp(*words, "--overwrite", "--from", "torch")
    assert wrong.code == 2
    assert "unknown origin of weights 'torch'; did you mean 'pytorch'?" in wrong.err

"""Layers in configs: every kind read, written back, and every mistake named by its key."""

import dataclasses
import tomllib

import pytest

from dbp import nn
from dbp.config.from_table import settings_from
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.errors import UserError
from dbp.nn.layers.containers import Layer

# Every setting of every layer, none as it is by default.
WINDOW = {"size": [3, 2], "stride": [2, 1], "padding": "same"}
VOLUME = {"size": [3, 2, 1], "stride": [2, 1, 1], "padding": "same"}
ALONG = {"size": 3, "stride": 2, "padding": 1}
MADE = {"activation": "tanh", "initializer": "he_normal", "bias": False}
RECURRENT = {
    "units": 3,
    "sequences": False,
    "initializer": "zeros",
    "recurrent_initializer": "ones",
    "layers": 2,
    "bidirectional": True,
}
TABLES = {
    "dense": {"units": 3, **MADE},
    "activation": {"function": "gelu"},
    "prelu": {"shared": True, "initializer": "zeros"},
    "flatten": {},
    "reshape": {"shape": [2, 4]},
    "conv1d": {"filters": 4, **ALONG, "dilation": 2, "groups": 2, **MADE},
    "conv2d": {"filters": 4, **WINDOW, "dilation": [1, 2], "groups": 2, **MADE},
    "conv3d": {"filters": 4, **VOLUME, "dilation": [1, 2, 1], "groups": 2, **MADE},
    "separable_conv2d": {"filters": 4, **WINDOW, "dilation": [1, 2], "multiplier": 2, **MADE},
    "conv_transpose1d": {"filters": 4, **ALONG, "dilation": 2, "groups": 2, "output_padding": 1, **MADE},
    "conv_transpose2d": {"filters": 4, **WINDOW, "padding": 1, "dilation": 2, "groups": 2, "output_padding": 1, **MADE},
    "conv_transpose3d": {
        "filters": 4,
        **VOLUME,
        "padding": 1,
        "dilation": 2,
        "groups": 2,
        "output_padding": [0, 1, 0],
        **MADE,
    },
    **{f"{kind}_pool1d": {**ALONG, "dilation": 2} for kind in ("max", "average")},
    **{f"{kind}_pool2d": {**WINDOW, "dilation": [1, 2]} for kind in ("max", "average")},
    **{f"{kind}_pool3d": {**VOLUME, "dilation": [1, 2, 1]} for kind in ("max", "average")},
    "global_average_pool": {},
    "global_max_pool": {},
    "upsample": {"factor": [2, 3], "method": "bilinear"},
    "batch_norm": {"decay": 0.5, "epsilon": 0.01, "statistics": "batch"},
    "rms_norm": {"epsilon": 0.01},
    "layer_norm": {"epsilon": 0.01},
    "group_norm": {"groups": 2, "epsilon": 0.01},
    "dropout": {"rate": 0.25},
    "random_flip": {"axis": "vertical"},
    "random_shift": {"size": [0, 3]},
    "random_crop": {"size": [3, 2]},
    "random_rotation": {"degrees": 12.5},
    "gaussian_noise": {"deviation": 0.25},
    "cutout": {"size": [3, 2]},
    "mixup": {"alpha": 0.5},
    "embedding": {"entries": 9, "units": 3, "initializer": "zeros", "sparse": True},
    "position": {"initializer": "zeros", "length": 40},
    "gru": RECURRENT,
    "lstm": RECURRENT,
    "fourier_features": {"frequencies": 5, "deviation": 2.5},
    "spectral_conv1d": {"filters": 4, "modes": 3, "initializer": "he_normal"},
    "spectral_conv2d": {"filters": 4, "modes": [3, 2], "initializer": "he_normal"},
    "attention": {"heads": 2, "causal": True, "initializer": "zeros", "bias": False},
    "concatenate": {"axis": 1},
    "add": {},
    "subtract": {},
    "multiply": {},
    "average": {},
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
    assert set(TABLES) == set(nn.LAYERS) - {"shared"}  # which needs another layer


@pytest.mark.parametrize("kind", TABLES)
def test_layers_survive_being_written_and_read(kind):
    settings = settings_with({"kind": kind, **TABLES[kind]})
    layer: Layer = settings.model.layers[0]
    assert type(layer) is nn.LAYERS[kind]
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        assert value != field.default
        if field.name not in ("layers", "shortcut") or isinstance(value, int):
            given = TABLES[kind][field.name]
            assert value == (tuple(given) if isinstance(given, list) else given)
    again = settings_from(tomllib.loads(to_toml(table_from(settings))))
    assert again == settings
    assert again.model.layers == (layer,)


def test_frequencies_may_be_rows_of_numbers():
    settings = settings_with({"kind": "fourier_features", "frequencies": [[1, 0], [0.5, 2]]})
    assert settings.model.layers == (nn.FourierFeatures(((1.0, 0.0), (0.5, 2.0))),)
    assert settings_from(tomllib.loads(to_toml(table_from(settings)))) == settings


def test_layers_within_layers_are_read():
    outer = settings_with({"kind": "residual", **TABLES["residual"]}).model.layers[0]
    inner = nn.Residual((nn.BatchNorm(),))
    assert outer == nn.Residual((nn.Dense(3), inner), (nn.Conv2d(4, 1, padding=0),), "relu")


def test_a_sequence_of_layers_within_layers_survives_too():
    inner = nn.Sequential(nn.Dense(64, "relu"), nn.Dense(64))
    for model in (nn.Sequential(nn.Flatten(), inner, nn.Residual((inner,)), nn.Dense(10)), nn.Dense(10)):
        settings = dataclasses.replace(settings_with({"kind": "flatten"}), model=model)
        assert settings_from(tomllib.loads(to_toml(table_from(settings)))) == settings


@pytest.mark.parametrize("kind", TABLES)
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
        ({"kind": "gru", "units": 3, "layers": []}, r"model.layers.0.layers must be a whole number, but is \[\]"),
        ({"kind": "gru", "units": 3, "layers": 0}, "model.layers.0: layers must be at least 1, but is 0"),
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

"""Models of named layers in configs: read, written back, trained from TOML alone, and mistakes named by their key."""

import dataclasses
import tomllib
from typing import ClassVar

import numpy as np
import pytest

from dbp import nn
from dbp.config.from_table import model_from, settings_from
from dbp.config.own_code import Own
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.errors import UserError
from tests.config.test_toml_layers import settings_with
from tests.jobs import ROOT
from tests.nn.models import inputs
from tests.test_docs import blocks

UNET = """
[model]
layers = [
    { kind = "conv2d", filters = 4, size = 3, padding = "same", activation = "relu", name = "wide" },
    { kind = "max_pool2d", size = 2 },
    { kind = "conv2d", filters = 8, size = 3, padding = "same", activation = "relu" },
    { kind = "conv_transpose2d", filters = 4, size = 2, stride = 2 },
    { kind = "concatenate", from = ["wide", "conv_transpose2d_1"] },
    { kind = "conv2d", filters = 2, size = 1 },
]
"""
TWO_TOWERS = """
[model]
layers = [
    { kind = "sequential", name = "encoder", from = "left", layers = [
        { kind = "flatten" }, { kind = "dense", units = 4, activation = "tanh" },
    ] },
    { kind = "shared", layer = "encoder", name = "encoded", from = "right" },
    { kind = "multiply", from = ["encoder", "encoded"] },
    { kind = "dense", units = 1 },
]
"""
HEADS = """
[model]
outputs = { class = "class", energy = "dense_3" }
layers = [
    { kind = "dense", units = 4, name = "body", activation = "tanh" },
    { kind = "residual", layers = [
        { kind = "dense", units = 4, name = "one" },
        { kind = "dense", units = 4, from = "inputs" },
        { kind = "add", from = ["one", "dense_2"] },
    ] },
    { kind = "dense", units = 3, name = "class" },
    { kind = "dense", units = 1, from = "residual_1" },
]
"""
ROWS = inputs(4, 8, 8, 1)
MODELS = {
    "unet": (UNET, ROWS, (8, 8, 2)),
    "two towers": (TWO_TOWERS, {"left": ROWS, "right": ROWS + 1}, (1,)),
    "heads": (HEADS, inputs(4, 5), {"class": (3,), "energy": (1,)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_read_and_written_back(name):
    text, x, shape = MODELS[name]
    model = model_from(tomllib.loads(text))
    assert isinstance(model, nn.Graph)
    assert nn.initial_parameters(model, x, 0).output_shape == shape
    settings = dataclasses.replace(settings_with({"kind": "flatten"}), model=model)
    assert settings_from(tomllib.loads(to_toml(table_from(settings)))) == settings


def test_the_models_of_the_docs():
    found = blocks((ROOT / "docs/models.md").read_text(), "toml")
    unet, heads = (block for block in found if "[model]" in block and "from =" in block)
    images, rows = np.zeros((2, 8, 8, 1)), np.zeros((2, 5))
    found = nn.initial_parameters(model_from(tomllib.loads(unet)), images, 0)
    assert found.output_shape == (8, 8, 2)
    inputs = {"before": images, "after": images, "meta": rows}
    found = nn.initial_parameters(model_from(tomllib.loads(heads)), inputs, 0)
    assert found.output_shape == {"class": (3,), "energy": (1,)}


def test_two_towers_share_their_parameters():
    model = model_from(tomllib.loads(TWO_TOWERS))
    shapes = nn.initial_parameters(model, {"left": ROWS, "right": ROWS}, 0).shapes
    assert [*shapes] == ["encoder/dense_1/weight", "encoder/dense_1/bias", "dense_1/weight", "dense_1/bias"]


def test_a_layer_of_the_users_own_keeps_a_setting_called_name():
    @dataclasses.dataclass(frozen=True)
    class Titled:
        kind: ClassVar[str] = "titled"
        name: str = ""

        def __call__(self, scope, x):  # noqa: ARG002
            return x

    table = {"model": {"layers": [{"kind": Own("my_layers:Titled", Titled), "name": "mine"}]}}
    assert model_from(table) == nn.Sequential(Titled("mine"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"layers": [{"kind": "dense", "units": 1, "name": "a b"}]}, "model.layers.0: name must be letters"),
        ({"layers": [{"kind": "dense", "units": 1, "from": 1}]}, "model.layers.0: from must be a name"),
        ({"layers": [{"kind": "dense", "units": 1, "form": "a"}]}, "unknown key 'model.layers.0.form'"),
        ({"layers": [{"kind": "add", "from": ["a", "add_1"]}]}, "model: add_1: takes 'add_1', which is its own name"),
        ({"layers": [{"kind": "dense", "units": 1}], "outputs": ["dens"]}, "model: outputs: no layer has the name"),
        ({"layers": [{"kind": "dense", "units": 1}], "output": ["a"]}, "unknown key 'model.output'; did .*outputs'"),
        ({"outputs": ["a"]}, "model.layers must be a list of layers"),
        (
            {"layers": [{"kind": "sequential", "name": "inner", "layers": [{"kind": "add", "from": ["add_1"]}]}]},
            "model.layers.0: add_1: takes 'add_1', which is its own name",
        ),
    ],
)
def test_mistakes_are_named_by_their_key(model, message):
    with pytest.raises(UserError, match=f"^{message}"):
        model_from({"model": model})


def test_numbers_of_a_config_are_those_of_the_same_model_in_python():
    model = model_from(tomllib.loads(UNET))
    same = nn.as_model([*model.layers])
    weights = nn.initial_parameters(model, ROWS, 0).parameters
    np.testing.assert_array_equal(model(nn.use(weights), ROWS), same(nn.use(weights), ROWS))

"""Configs are read, changed and written back; every mistake is named by its key."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp import nn
from dbp.config.config_file import load_table
from dbp.config.data import Data
from dbp.config.from_table import read_settings, settings_from
from dbp.config.settings import Checkpoint, Settings
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.optim import OPTIMIZERS, SCHEDULES, SGD, Adam, Cosine, FirstOrder
from tests.jobs import ROOT, SMALL


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(SMALL)
    return path


def settings_with(config, *changes):
    return read_settings(config, list(changes))


def test_a_config_describes_settings(config):
    settings = settings_with(config)
    layers = (nn.Flatten(), nn.Dense(16, "tanh"), nn.Dense(10))
    assert settings.model == nn.Sequential(*layers)
    assert settings.optimizer == Adam(1e-2)
    assert settings.schedule == Cosine(warmup_steps=5)
    assert settings.data == Data("dbp:digits-train", validation=0.1, test="dbp:digits-test")
    assert settings.checkpoint == Checkpoint(every_steps=10)
    assert settings.out == str(config.parent / "runs" / "c")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples").glob("*.toml")))
def test_examples_are_valid(name):
    assert read_settings(ROOT / "examples" / f"{name}.toml", []).out == str(ROOT / "examples" / "runs" / name)


WITHOUT_RATE = sorted(kind for kind, method in OPTIMIZERS.items() if not issubclass(method, FirstOrder))


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("optimizer={kind='muon', matrices=['a', 'b'], layer_rates={'dense_1/*'=0.5, 'ü \"x\".y'=2}}",),
        *([f"optimizer={{kind='{kind}', learning_rate=0.1}}"] for kind in OPTIMIZERS if kind not in WITHOUT_RATE),
        *([f"optimizer={{kind='{kind}'}}", "schedule={kind='constant'}"] for kind in WITHOUT_RATE),
        *([f"schedule={{kind='{kind}', warmup_steps=3}}"] for kind in SCHEDULES),
    ],
    ids=str,
)
def test_settings_survive_being_written_and_read(config, changes):
    settings = settings_with(config, *changes)
    text = to_toml(table_from(settings))
    assert settings_from(tomllib.loads(text)) == settings


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
def test_toml_is_written_as_it_is_read(table):
    assert tomllib.loads(to_toml(table)) == table


def test_objects_of_ones_own_appear_by_name():
    def my_model(scope, x):
        return x @ scope.parameter("w", (2, 1))

    data = ArrayDataset([[1.0, 2.0]], [1.0], name="my rows")
    settings = Settings(my_model, "mean_squared_error", Data(data), SGD(0.1), epochs=1, batch_size=1)
    table = table_from(settings)
    assert table["data"]["train"] == "my rows"
    assert table["model"]["custom"].endswith("my_model")


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("epochs=7", lambda s: s.epochs == 7),
        ("optimizer.learning_rate=1", lambda s: s.optimizer.learning_rate == 1.0),
        ("model.layers.1.units=64", lambda s: s.model.layers[1].units == 64),
        ("data.validation=other.h5", lambda s: s.data.validation == "other.h5"),
        ('out="a b"', lambda s: s.out == "a b"),
        ("dtype=float64", lambda s: s.dtype == "float64"),
        ("optimizer.decay=['*/weight']", lambda s: s.optimizer == Adam(1e-2, decay=("*/weight",))),
        ("optimizer.layer_rates.dense_1/*=2", lambda s: s.optimizer == Adam(1e-2, layer_rates={"dense_1/*": 2.0})),
        ("loss=hinge", lambda s: s.loss == nn.Hinge()),
        ("loss={kind='cross_entropy',label_smoothing=0.1}", lambda s: s.loss == nn.CrossEntropy(0.1)),
    ],
)
def test_set_changes_a_key(config, change, check):
    assert check(settings_with(config, change))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        (["optimizer=adam", "optimizer.learning_rate=0.1"], lambda s: s.optimizer == Adam(0.1)),
        (["optimizer=adam", "optimizer.kind=sgd", "optimizer.learning_rate=1"], lambda s: s.optimizer == SGD(1)),
        (["schedule=cosine", "schedule.warmup_steps=3"], lambda s: s.schedule == Cosine(warmup_steps=3)),
        (["loss=cross_entropy", "loss.label_smoothing=0.1"], lambda s: s.loss == nn.CrossEntropy(0.1)),
        (["metrics=['auc','top_k']", "metrics.1.k=3"], lambda s: s.metrics[1].k == 3),
    ],
)
def test_set_gives_settings_to_what_is_named_alone(config, changes, check):
    assert check(settings_with(config, *changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lerning_rate=1", "unknown key 'lerning_rate'"),
        ("epoch=1", "unknown key 'epoch'; did you mean 'epochs'"),
        ("optimizer.lerning_rate=1", "unknown key 'optimizer.lerning_rate'; did you mean 'optimizer.learning_rate'"),
        ("model.layers.1.unit=3", "unknown key 'model.layers.1.unit'; did you mean 'model.layers.1.units'"),
        ("model.layer=3", "unknown key 'model.layer'; did you mean 'model.layers'"),
        ("model.layers=3", "model.layers must be a list of layers"),
        ("model.layers.1.kind=dens", "unknown model.layers.1 kind 'dens'; did you mean 'dense'"),
        ("model.layers.1.activation=rellu", "model.layers.1: unknown activation 'rellu'; did you mean 'relu'"),
        ("model.layers.1.activation=Gelu", "model.layers.1: unknown activation 'Gelu'; did you mean 'gelu'"),
        ("model.layers.1.activation=swish", "model.layers.1: unknown activation 'swish'; did you mean 'silu'"),
        ("model.layers.1.kind=GRU", "unknown model.layers.1 kind 'GRU'; did you mean 'gru'"),
        ("model.layers.1.kind=Linear", "unknown model.layers.1 kind 'Linear'; did you mean 'dense'"),
        ("model.layers.1.kind=BatchNorm", "unknown model.layers.1 kind 'BatchNorm'; did you mean 'batch_norm'"),
        ("model.layers.1.kind=conv", "unknown model.layers.1 kind 'conv'; did you mean 'conv2d'"),
        ("model.layers.1.kind=MaxPool", "unknown model.layers.1 kind 'MaxPool'; did you mean 'max_pool2d'"),
        ("model.layers.1.kind=averagepool2d", "kind 'averagepool2d'; did you mean 'average_pool2d'"),
        ("model.layers.1.out_features=3", "'model.layers.1.out_features'; did you mean 'model.layers.1.units'"),
        ("optimizer.lr=1", "unknown key 'optimizer.lr'; did you mean 'optimizer.learning_rate'"),
        ("optimizer.LearningRate=1", "unknown key 'optimizer.LearningRate'; did you mean 'optimizer.learning_rate'"),
        ("optimizer.momentum=1", "unknown key 'optimizer.momentum'; valid: optimizer.average, optimizer.beta1, "),
        ("optimizer.decay=all", "optimizer.decay must be a list, but is 'all'"),
        ("optimizer.decay=[1]", r"optimizer.decay must have values that are each text, but is \[1\]"),
        ("optimizer.layer_rates=2", "optimizer.layer_rates must be a table, but is 2"),
        ("optimizer.layer_rates.a=fast", "optimizer.layer_rates must have values that are each a number, but is {'a'"),
        ("optimizer.layer_rates.a=-1", "optimizer: the factor of layer_rates for 'a' must be a positive"),
        ("not_finite.action=skp", "unknown not_finite.action 'skp'; did you mean 'skip'"),
        ("schedule={kind='plateau',patience=1.5}", "schedule.patience must be a whole number, but is 1.5"),
        ("schedule={kind='one-cycle'}", "unknown schedule kind 'one-cycle'; did you mean 'one_cycle'"),
        ("loss=mse", "unknown loss kind 'mse'; did you mean 'mean_squared_error'"),
        ("loss=BCE", "unknown loss kind 'BCE'; did you mean 'binary_cross_entropy'"),
        ("loss=nll", "unknown loss kind 'nll'; did you mean 'cross_entropy'"),
        ("optimizer.kind=adm", "unknown optimizer kind 'adm'; did you mean 'adam'"),
        ("loss=cros_entropy", "unknown loss kind 'cros_entropy'; did you mean 'cross_entropy'"),
        ("loss={kind='huber',delt=2}", "unknown key 'loss.delt'; did you mean 'loss.delta'"),
        ("epochs=many", "epochs must be a whole number, but is 'many'"),
        ("epochs=1.5", "epochs must be a whole number, but is 1.5"),
        ("epochs=true", "epochs must be a whole number, but is True"),
        ("epochs=-1", "epochs must be at least 0, but is -1"),
        ("shards=0", "shards must be at least 1, but is 0"),
        ("threads=0", "threads must be at least 1, but is 0"),
        ("threads=many", "threads must be a whole number or 'auto', but is 'many'"),
        ("threads=1.5", "threads must be a whole number or 'auto', but is 1.5"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate must be a number, but is 'fast'"),
        ("optimizer.learning_rate=-1", "optimizer: learning_rate must be a positive number, but is -1"),
        ("dtype=float16", "unknown dtype 'float16'; did you mean 'float64'"),
        ("data=3", "data must be a table, but is 3"),
        ("data.train=3", "data.train must be a file, .*, but is 3"),
        ("data.validation=2", "data.validation must be a file or a fraction between 0 and 1, but is 2"),
        ("checkpoint.keep=0", "checkpoint.keep must be at least 1, but is 0"),
        ("seed", "--set takes key=value, but got 'seed'"),
        ("model.layers.9.units=3", "there is no '9'.*has 3 entries"),
        ("epochs.x=3", "'epochs' is a value, not a table"),
        ("optimizer.kind.x=3", "'optimizer.kind' is a value, not a table"),
    ],
)
def test_mistakes_are_named_by_key(config, change, message):
    with pytest.raises(UserError, match=message):
        settings_with(config, change)


@pytest.mark.parametrize("missing", ["loss", "epochs", "batch_size", "data", "model", "optimizer"])
def test_missing_keys_are_named(config, missing):
    table = load_table(config, [])
    del table[missing]
    with pytest.raises(UserError, match=f"^{missing} is missing"):
        settings_from(table)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"none.toml cannot be read: No such file"):
        read_settings(tmp_path / "none.toml", [])
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(UserError, match=r"bad.toml is not valid TOML:.*line 1"):
        read_settings(tmp_path / "bad.toml", [])

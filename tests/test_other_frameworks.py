"""Settings that other frameworks call otherwise get the word of dbp in the error."""

import dataclasses
import importlib
import inspect
import re

import pytest

import dbp
from dbp.commands import COMMANDS
from dbp.config.from_table import settings_from
from dbp.config.model_table import KEYS_OF_LAYER
from dbp.config.settings import SECTIONS, Settings
from dbp.errors import UserError, nearest
from dbp.metrics import METRICS
from dbp.nn import ACTIVATIONS, INITIALIZERS, LAYERS, LOSSES
from dbp.optim import OPTIMIZERS, SCHEDULES
from dbp.other_frameworks import ALIASES, CLASSES, KEYS, hint
from dbp.reading.splits import Split
from tests.jobs import ROOT

RUN = {
    "model": {"layers": [{"kind": "dense", "units": 2}]},
    "loss": "cross_entropy",
    "data": {"train": "dbp:digits-train"},
    "optimizer": {"kind": "adam"},
    "epochs": 1,
    "batch_size": 10,
}
KINDS = (LAYERS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES)


def fields(cls):
    return {field.name for field in dataclasses.fields(cls)}


def keys():
    """Return the full keys of all settings but those of layers."""
    sections = {section: fields(cls) for section, cls in SECTIONS.items()}
    for section, kinds in (("loss", LOSSES), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        sections[section] = set().union(*map(fields, kinds.values()))
    return fields(Settings) | {f"{section}.{name}" for section, names in sections.items() for name in names}


def test_what_the_tables_name_is_there():
    assert set(KEYS.values()) - keys() <= {"model.layers", "quiet", "listeners"}
    classes = [cls for kinds in KINDS for cls in kinds.values()]
    names = set().union(*KINDS, ACTIVATIONS, INITIALIZERS, *map(fields, classes))
    names |= {key.rpartition(".")[2] for key in keys()} | {*KEYS_OF_LAYER}
    assert set(ALIASES.values()) <= names
    for path in CLASSES.values():
        found = dbp
        for name in path.split(".")[1:]:
            found = getattr(found, name)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("validation_split", "dbp has it as data.validation, in dbp.Data(validation=...)"),
        ("lr", "dbp has it as optimizer.learning_rate, in dbp.optim.Adam(learning_rate=...)"),
        ("clipnorm", "dbp has it as optimizer.clip_norm, in dbp.optim.Adam(clip_norm=...)"),
        ("restore_best_weights", "dbp has it as early_stopping.restore_best, in dbp.EarlyStopping(restore_best=...)"),
        ("class_weights", "dbp has it as loss.class_weights, in dbp.nn.CrossEntropy(class_weights=...)"),
        ("callbacks", "dbp has it as listeners; functions of an event"),
        ("num_epochs", "did you mean 'epochs'?"),
        ("random_state", "did you mean 'seed'?"),
        ("num_workers", "each rank reads its own rows, ahead of their use; leave it out"),
        ("batch_sise", "did you mean 'batch_size'?"),
    ],
)
def test_fit_names_the_setting_of_dbp(word, message):
    with pytest.raises(UserError) as caught:
        Settings.of(**{word: 1})
    assert str(caught.value).startswith(f"unknown setting {word!r}; {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_split": 0.2}, "unknown key 'validation_split'; dbp has it as data.validation"),
        ({"data": {"train": "t.h5", "validation_split": 0.2}}, "did you mean 'data.validation'?"),
        ({"optimizer": {"kind": "adam", "lr": 0.1}}, "did you mean 'optimizer.learning_rate'?"),
        ({"optimizer": {"kind": "adam", "batch_size": 1}}, "dbp has it as batch_size"),
        ({"early_stopping": {"min_delta": 0.1}}, "did you mean 'early_stopping.least_change'?"),
    ],
)
def test_a_config_is_told_the_key_of_dbp(change, message):
    with pytest.raises(UserError, match="unknown key") as caught:
        settings_from(RUN | change)
    assert message in str(caught.value)


def test_a_layer_is_told_where_parameters_are_kept_fixed_and_what_the_data_says():
    for word, message in (
        (
            "trainable",
            'dbp has it as frozen; a list of patterns of the names of parameters, such as frozen = ["dense_1/*"]',
        ),
        ("input_shape", "the data says it; leave it out"),
        ("kernel_size", "did you mean"),
        ("momentum", "valid: "),
    ):
        layers = [{"kind": "conv2d", "filters": 2, "size": 3, word: 1}]
        with pytest.raises(UserError) as caught:
            settings_from(RUN | {"model": {"layers": layers}})
        assert message in str(caught.value)


def test_metrics_and_columns_have_the_names_of_dbp():
    columns = ["cost", "accuracy", "validation_cost", "validation_accuracy"]
    for word, valid, name in (
        ("acc", METRICS, "accuracy"),
        ("f1_score", METRICS, "f1"),
        ("mae", METRICS, "mae"),
        ("val_loss", columns, "validation_cost"),
        ("val_accuracy", columns, "validation_accuracy"),
    ):
        assert nearest(word, valid) == name


def test_a_word_that_is_not_known_has_no_hint():
    assert hint("colour", from_python=True) is None


PAGE = (ROOT / "docs" / "coming_from.md").read_text()
ELSEWHERE = {"history", "mpirun", "history.csv", "timing.csv", "read", "kind"}  # no settings


def words_of_dbp():
    """Return what stands as code in the column of dbp."""
    rows = re.findall(r"^\|.*?\| (.*) \|$", PAGE, re.MULTILINE)
    return sorted({word for row in rows for word in re.findall(r"`([^`]+)`", row)})


def is_of_dbp(word):
    """Return True if a command, a name in the package, or a setting exists."""
    if word.startswith("dbp "):
        _, command, *options = word.split()
        module = ROOT / "dbp" / "commands" / f"{'import_' if command == 'import' else command}.py"
        asked = [option for option in options if re.match("--?[a-z]", option)]
        return command in COMMANDS and all(f'"{option}"' in module.read_text() for option in asked)
    if word.startswith("dbp."):
        found = dbp
        for name in word.partition("(")[0].split(".")[1:]:
            if not hasattr(found, name):
                importlib.import_module(f"{found.__name__}.{name}")
            found = getattr(found, name)
        return True
    if word.startswith('"'):  # a value of a setting
        return any(word in path.read_text() for path in (ROOT / "dbp").rglob("*.py"))
    name = word.partition("=")[0].strip()
    classes = [Split, *(cls for kinds in KINDS for cls in kinds.values())]
    known = set().union(*KINDS, *map(fields, classes), inspect.signature(dbp.fit).parameters, ELSEWHERE, KEYS_OF_LAYER)
    return name in known | keys() | {"model.layers", "schedule.kind", "optimizer.kind", "--order", "--missing"}


def test_the_page_for_those_who_come_from_elsewhere_names_what_there_is():
    assert [word for word in words_of_dbp() if not is_of_dbp(word)] == []
    assert len(words_of_dbp()) > 60
    assert not is_of_dbp("data.validation_split")
    assert not is_of_dbp("dbp train --no-such")

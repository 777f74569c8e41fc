"""The settings of a run from the parameters of an estimator, or from a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dbp.checks import is_integer
from dbp.config.config_file import load_table
from dbp.config.data import Data
from dbp.config.from_table import settings_from
from dbp.config.settings import EarlyStopping, Settings
from dbp.data import Dataset
from dbp.errors import UserError
from dbp.nn import NUMBERS, Dense, Loss, as_loss
from dbp.optim import Adam, as_optimizer

ONE_OUTPUT_FOR_TWO = "binary_cross_entropy"  # the loss by which two classes share one output
LAYERS, EPOCHS, BATCH_SIZE = (100,), 100, 32  # without a config


def settings_of(estimator: Any, data: Dataset, outputs: int, dtype: str, seed: int) -> Settings:
    """Return the settings of a run.

    Args:
        estimator: has the parameters.
        data: the training data.
        outputs: of the model.
        dtype: of the inputs, in which the run computes if there is no config.
        seed: of the run.

    Raises:
        UserError: a parameter breaks a rule.
    """
    given = estimator
    if given.config is not None and given.layers is not None:
        raise UserError("layers and config exclude each other, as the config has the model; leave one of them out")
    if given.config is not None:
        base = _from_config(given.config)
        loss: Loss = as_loss(base["loss"] if given.loss is None else given.loss)
    else:
        loss = as_loss(given.default_loss if given.loss is None else given.loss)
        base = _by_default(given.layers, 1 if outputs == 2 and loss.kind == ONE_OUTPUT_FOR_TWO else outputs, dtype)
    changes: dict[str, Any] = {**base, "loss": loss, "seed": seed, "out": None}
    for name in ("epochs", "batch_size", "shards"):
        if getattr(given, name) is not None:
            changes[name] = getattr(given, name)
    if given.optimizer is not None:
        changes["optimizer"] = as_optimizer(given.optimizer)
    if given.learning_rate is not None:
        changes["optimizer"] = _with_learning_rate(changes["optimizer"], given.learning_rate)
    if is_integer(changes["batch_size"]):  # of few rows all are taken
        changes["batch_size"] = min(changes["batch_size"], len(data))
    if given.patience:
        changes["early_stopping"] = EarlyStopping(given.patience)
    roles = "both" if getattr(loss, "targets_are", "") == NUMBERS else "inputs"
    changes["data"] = Data(data, validation=given.validation, standardize=roles if given.standardize else None)
    return Settings(**changes)


def _by_default(layers: Sequence[Any] | None, outputs: int, dtype: str) -> dict[str, Any]:
    given = LAYERS if layers is None else layers
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UserError(f"layers must be a list of layers and numbers of units, such as (100, 50), but is {given!r}")
    hidden = [Dense(int(one), "relu") if is_integer(one) else one for one in given]
    return {
        "model": [*hidden, Dense(outputs)],
        "optimizer": Adam(),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "dtype": dtype,
    }


def _from_config(config: Any) -> dict[str, Any]:
    """Return the settings in a config file, or in its table, but for data and folder."""
    table = dict(config) if isinstance(config, Mapping) else load_table(Path(config), [])
    settings = settings_from({**table, "data": {"train": "-"}, "out": "-"})
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _with_learning_rate(optimizer: Any, rate: float) -> Any:
    if not optimizer.is_first_order:
        raise UserError(f"optimizer {optimizer.kind!r} has no learning rate; leave learning_rate out")
    return replace(optimizer, learning_rate=rate)

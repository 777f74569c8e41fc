"""The settings of a run and the meaning of its data, as texts that a later start reads as they were meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbp.checkpoint import table_of
from dbp.config.custom_objects import CUSTOM
from dbp.config.data import FROM, PARTS, is_in_files, with_paths
from dbp.config.flat_table import differences, flatten
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.data import Meaning, meaning_text, parse_meaning
from dbp.errors import DataError, UserError
from dbp.nn import FunctionLoss
from dbp.nn.source_text import digest_of_source
from dbp.optim import ScheduleFunction

SOURCES = "loss", "schedule"  # settings that may be functions, of whose source a checkpoint keeps a digest


def stored_table(settings: Settings) -> dict[str, Any]:
    """Return the table of the settings with paths that do not depend on the folder from which the run was started.

    The run's folder is that of its config.toml, so that it may be moved; other paths are absolute.
    """
    table = table_from(settings)
    if "out" in table:
        table["out"] = "."
    for key in PARTS:
        if is_in_files(source := getattr(settings.data, key)):
            table["data"][key] = with_paths(source, lambda path: str(Path(path).resolve()))
    if (path := settings.data.standardize_from) is not None:
        table["data"]["standardize"][FROM] = with_paths(path, lambda file: str(Path(file).resolve()))
    if settings.weights is not None:
        from dbp.config.initial_weights import InitialWeights  # which a run without them does not need

        if (path := (given := InitialWeights.of(settings.weights)).path) is not None:
            table["weights"] = given.with_path(str(Path(path).resolve())).as_value(CUSTOM)
    return table


def stored_config(settings: Settings) -> str:
    """Return the settings as TOML, once it is known that reading it gives the same.

    Raises:
        UserError: it does not, so that a later start would refuse its own checkpoint.
    """
    table = stored_table(settings)
    text = to_toml(table)
    try:
        found = table_of(text)
    except DataError as error:
        raise UserError(
            f"the settings cannot be stored with the run: {error}; change them, or set out to None"
        ) from None
    if changed := differences(found, table):
        key, value = next((key, flatten(table).get(key)) for key in changed)
        raise UserError(f"{key} cannot be stored with the run, as it is {value!r}; change it, or set out to None")
    return text


def stored_sources(settings: Settings) -> dict[str, str]:
    """Return what the progress of a checkpoint keeps of the source of settings that are functions: digests by name."""
    values = {name: getattr(settings, name) for name in SOURCES}
    functions = (FunctionLoss, ScheduleFunction)
    return {
        f"{name}_source": digest_of_source(value.function)
        for name, value in values.items()
        if isinstance(value, functions)
    }


def stored_meaning(meaning: Meaning) -> str:
    """Return the meaning of the data as checkpoints store it, once it is known that it can be read.

    Raises:
        UserError: it cannot, so that a later start would refuse its own checkpoint.
    """
    try:
        text = meaning_text(meaning)
        parse_meaning(text)
    except (TypeError, ValueError, AttributeError, DataError) as error:
        raise UserError(
            f"the meaning of the training data cannot be stored with the run: {error}; change it, or set out to None"
        ) from None
    return text

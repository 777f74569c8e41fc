"""The settings of a run, what it was made with, and what differs between the settings of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbp.config.flat_table import flatten
from dbp.report.markup import Markup, figure, grid, section, table, tag, text
from dbp.report.record import RunRecord
from dbp.text import brief

# Keys in which runs differ anyway, or that have no influence on what is trained.
NOT_COMPARED = ("out",)
MOST_DIFFERENCES = 60
MOST_LETTERS, MOST_CONFIG_LETTERS = 60, 1 << 16
LETTERS_BEFORE = 20  # of a long value, shown before the first letter in which it differs from another
NOT_SET = "-"
# What a checkpoint records about its origin, in words.
PROVENANCE = {
    "dbp": "dbp",
    "python": "Python",
    "numpy": "NumPy",
    "blas": "BLAS",
    "cpu_features": "features of the processor in use",
    "c_library": "C library",
    "processor": "processor",
    "host": "host",
    "mpi": "MPI",
    "ranks": "ranks",
    "written": "written",
}


def settings_of(record: RunRecord) -> Markup:
    """Return the sections on the config and the provenance of a run."""
    config = record.config_text[:MOST_CONFIG_LETTERS].strip()
    origin = [[words, str(record.provenance[name])] for name, words in PROVENANCE.items() if name in record.provenance]
    origin += [[name, str(value)] for name, value in record.provenance.items() if name not in PROVENANCE]
    numbers = [(name, record.progress.get(name)) for name in ("seed", "shards")]
    origin += [[name, str(value)] for name, value in numbers if value is not None]
    digests = [
        (name.removeprefix("data_"), value) for name, value in record.progress.items() if name.startswith("data_")
    ]
    origin += [[f"{name} data", brief(str(value), 70).strip("'")] for name, value in digests]
    made = figure("Made with", tag("dl", [[tag("dt", k), tag("dd", v)] for k, v in origin])) if origin else None
    code = figure("Config", tag("pre", config, tabindex=0)) if config else None
    return section("Config and provenance", grid(code, made, class_="grid wide"))


def differences(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the settings in which runs differ, by key: the whole value of each run as text."""
    flat = [flatten(record.config) if record.config else {} for record in records]
    keys = list(dict.fromkeys(key for settings in flat for key in settings if key not in NOT_COMPARED))
    found = {key: [value_text(settings, key) for settings in flat] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def value_text(settings: Mapping[str, Any], key: str) -> str:
    """Return the value of a key as text."""
    if key not in settings:
        return NOT_SET
    return str(settings[key])


def shown_values(values: Sequence[str], most: int = MOST_LETTERS) -> list[str]:
    """Return values of a setting as they are shown: of long ones, the part where they differ from the most similar one.

    Two dots stand for what is left out.

    Args:
        values: of each run.
        most: letters that are shown of a value.
    """
    return [_shown(value, values, most) for value in values]


def _shown(value: str, values: Sequence[str], most: int) -> str:
    if len(value) <= most:
        return value
    common = max((_letters_in_common(value, other) for other in values if other != value), default=0)
    start = 0 if common < most else common - LETTERS_BEFORE
    end = start + most
    return f"{'..' * (start > 0)}{value[start:end]}{'..' * (end < len(value))}"


def _letters_in_common(one: str, other: str) -> int:
    """Return how many letters two texts have in common at their beginning."""
    different = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))


def _parts(key: str) -> list[Markup]:
    """Return a key that a narrow page breaks after its dots."""
    first, *others = key.split(".")
    return [text(first), *(text([".", tag("wbr"), part]) for part in others)]


def differences_table(records: Sequence[RunRecord], names: Sequence[Markup]) -> Markup:
    """Return the table of the settings in which runs differ, with a column for each run."""
    found = differences(records)
    if not found:
        return tag("p", "All runs have the same settings.", class_="lead")
    first = list(found.items())[:MOST_DIFFERENCES]
    rows = [[tag("code", _parts(key[:MOST_LETTERS])), *shown_values(values)] for key, values in first]
    note = f"{len(found) - MOST_DIFFERENCES} more settings differ." if len(found) > MOST_DIFFERENCES else None
    return figure("What differs in their settings", table(["setting", *names], rows), note=note, class_="card full")

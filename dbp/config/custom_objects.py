"""Custom objects in the table of a run: Python code that was given to dbp.fit, which a config cannot name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbp.config.config_file import Table

CUSTOM = "custom"  # the key of an object's name


def custom_code(value: Any) -> str | None:
    """Return the name of the first custom object in a table; None if there is none."""
    if isinstance(value, Mapping) and CUSTOM in value:
        return str(value[CUSTOM])
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((code for item in inner if (code := custom_code(item)) is not None), None)


def take_custom_metrics(table: Table) -> list[str]:
    """Take the metrics that are custom objects out of a table; return their names."""
    metrics = table.get("metrics", [])
    if isinstance(metrics, Mapping):
        tables: dict[str, Table] = {name: {"metrics": of_target} for name, of_target in metrics.items()}
        names = [one for of_target in tables.values() for one in take_custom_metrics(of_target)]
        table["metrics"] = {name: of_target["metrics"] for name, of_target in tables.items()}
        return names
    custom = {str(code): metric for metric in metrics if (code := custom_code(metric)) is not None}
    if custom:
        table["metrics"] = [metric for metric in metrics if metric not in custom.values()]
    return [*custom]

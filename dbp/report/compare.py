"""Runs beside one another as text: what differs in their settings, and what came out, the best first."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from dbp.errors import UserError, unknown
from dbp.report.direction import larger_is_better
from dbp.report.record import RunRecord
from dbp.report.settings import differences, shown_values
from dbp.run.progress import is_better
from dbp.text import INDENT, WIDTH, duration, joined, printable, table
from dbp.text import figure as number_text

MOST_DIFFERENCES, SETTING_LETTERS = 8, 300  # settings in the text, and letters of each; the CSV has all


def ordered(records: Sequence[RunRecord], by: str = "") -> tuple[list[RunRecord], str]:
    """Return runs, the best first, and the column that says so.

    Args:
        records: the runs.
        by: a column of the history; by default that by which the first run finds its best epoch.

    Raises:
        UserError: no run has this column.
    """
    known = list(dict.fromkeys(name for record in records for name in record.history.last))
    column = by or records[0].best_by
    if not known:
        raise UserError(f"{records[0].path} has no history to compare; train it for an epoch first")
    if column not in known:
        raise unknown("column of the history", column, known)
    larger = larger_is_better(next(record for record in records if column in record.history.last), column)
    rest, found = list(records), []
    while rest:
        best = rest[0]
        for record in rest[1:]:
            if is_better(value_of(record, column), value_of(best, column), larger):
                best = record
        found.append(best)
        rest.remove(best)
    return found, column


def value_of(record: RunRecord, column: str) -> float:
    """Return the value of a column at the best epoch of a run, else after its last one; NaN without any."""
    return (record.history.best or record.history.last).get(column, math.nan)


def compare_text(records: Sequence[RunRecord], by: str = "") -> str:
    """Return a table of runs, the best first, and the settings in which they differ."""
    runs, column = ordered(records, by)
    head = ["run", "state", "best epoch", column.replace("_", " "), "time"]
    rows = [head, *([*_result(record), _figure(record, column), _time(record)] for record in runs)]
    lines = table(rows, left=(0, 1), below=0)
    different = differences(runs)
    if different:
        lines += ["", "settings that differ:"]
        shown = {key: shown_values(texts, SETTING_LETTERS) for key, texts in list(different.items())[:MOST_DIFFERENCES]}
        for number, record in enumerate(runs):
            values = [f"{key} = {texts[number]}" for key, texts in shown.items()]
            lines += _settings_lines(record.name, values)
        if len(different) > MOST_DIFFERENCES:
            lines.append(f"  and {len(different) - MOST_DIFFERENCES} more, which --csv prints")
    return printable("\n".join(lines))


def _settings_lines(name: str, settings: Sequence[str]) -> list[str]:
    """Return the settings of a run beside its name, or below it where they take several lines."""
    *others, last = settings
    parts = [*(f"{setting}," for setting in others), last]
    line = " ".join([f"  {name}:", *parts])
    return [line] if len(line) <= WIDTH else [f"  {name}:", *joined([INDENT + parts[0], *parts[1:]])]


def _result(record: RunRecord) -> list[str]:
    return [record.name, record.state, f"{record.best_epoch or '-'} of {record.history.epochs}"]


def _figure(record: RunRecord, column: str) -> str:
    return number_text(value_of(record, column)) if column in record.history.last else "-"


def _time(record: RunRecord) -> str:
    values = record.status.values if record.status is not None else {}
    return duration(values["seconds"]) if "seconds" in values else "-"


def compare_csv(records: Sequence[RunRecord], by: str = "") -> str:
    """Return comma-separated values: a row for each run, the best first, with all columns and differing settings."""
    runs, _ = ordered(records, by)
    columns = list(dict.fromkeys(name for record in runs for name in record.history.last))
    different = differences(runs)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "state", "best_epoch", *columns, *different])
    for number, record in enumerate(runs):
        figures = [f"{value_of(record, column):.10g}" for column in columns]
        settings = [texts[number] for texts in different.values()]
        writer.writerow(
            [_no_formula(str(record.path)), record.state, record.best_epoch, *figures, *map(_no_formula, settings)]
        )
    return out.getvalue().rstrip("\n")


def _no_formula(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "@", "\t") else text

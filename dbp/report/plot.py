"""Curves of runs as a picture, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dbp.errors import UserError, unknown
from dbp.files import write_file
from dbp.library import library
from dbp.metrics.metric_set import VALIDATION
from dbp.report.record import RunRecord

FORMATS = (".svg", ".png", ".pdf")
MOST_PLOTS = 12
COLUMNS = 3  # of plots beside one another
WIDTH, HEIGHT = 4.2, 3.0  # inches of one


def plot(records: Sequence[RunRecord], out: Path, names: Sequence[str] = ()) -> str:
    """Draw costs and metrics of runs, one plot each, and return a line on what was written.

    Args:
        records: the runs.
        out: the file, whose ending is one of FORMATS.
        names: of the costs and metrics; by default all but those of single classes and outputs.

    Raises:
        UserError: the ending is unknown, no run has such a metric, or matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"a plot is written as {', '.join(FORMATS)}, but the name is {str(out)!r}")
    known = list(dict.fromkeys(name for record in records for name in record.history.figures))
    for name in names:
        if name not in known:
            raise unknown("cost or metric", name, known)
    of_all = list(dict.fromkeys(name for record in records for name in record.history.families))
    shown = list(names or of_all)[:MOST_PLOTS]
    if not shown:
        raise UserError(f"{records[0].path} has no history to plot; train it for an epoch first")
    figure_of = library("matplotlib.figure", "dbp plot").Figure
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = figure_of(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    for index, name in enumerate(shown):
        _draw(figure.add_subplot(rows, columns, index + 1), records, name)
    content = io.BytesIO()
    figure.savefig(content, format=out.suffix.lower()[1:], dpi=150)
    write_file(out, content.getvalue())
    return f"{out}: {', '.join(name.replace('_', ' ') for name in shown)}"


def _draw(axes: Any, records: Sequence[RunRecord], name: str) -> None:
    """Draw the curves of all runs for one cost or metric: training dotted, validation solid, the best epoch marked."""
    for number, record in enumerate(records):
        for column, style in ((name, ":"), (f"{VALIDATION}{name}", "-")):
            series = record.history.series.get(column)
            if series is None:
                continue
            alone = f"{VALIDATION}{name}" not in record.history.series
            label = record.name if style == "-" or alone else None
            axes.plot(series.epochs, series.values, "-" if alone else style, color=f"C{number}", label=_plain(label))
            if record.best_epoch and column == record.best_by:
                axes.plot(
                    [record.best_epoch], [record.history.best[column]], "o", color=f"C{number}", markerfacecolor="w"
                )
    axes.set_title(_plain(name.replace("_", " ")))
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if len(records) > 1:
        axes.legend(fontsize="small")


def _plain(text: str | None) -> str | None:
    """Return a text in which matplotlib finds no formula."""
    return None if text is None else text.replace("$", r"\$")

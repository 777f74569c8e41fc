"""The curves of a run, or of several in the same charts: cost, metrics, learning rate, speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.metrics.metric_set import VALIDATION
from dbp.report.chart import Curve, chart
from dbp.report.direction import larger_is_better
from dbp.report.head import words
from dbp.report.history import Series
from dbp.report.markup import Markup, grid, section
from dbp.report.record import RunRecord

LENGTHS = {"learning_rate": "learning rate", "step_length": "step length", "step_norm": "norm of the step"}
MOST_CHARTS = 24  # of metrics; classes may be many
MOST_RUNS = 8  # that have a color of their own
MOST_CLASSES = 5  # of a metric, the worst at the end, that have a curve


def curves_of(record: RunRecord) -> Markup:
    """Return the charts of one run: training and validation beside one another, with the best epoch."""
    history = record.history
    charts: list[Markup] = []
    for name in [*history.families][:MOST_CHARTS]:
        both = [("training", name, "training"), ("validation", f"{VALIDATION}{name}", "validation")]
        charts.append(
            chart(
                words(name),
                [
                    Curve(title, history.series[column], style, record.best_epoch if column == record.best_by else 0)
                    for title, column, style in both
                    if column in history.series
                ],
                log=name == "cost",
            )
        )
    charts += [_of_classes(record, name, members) for name, members in history.families.items() if members]
    for column, title in LENGTHS.items():
        if column in history.series:
            charts.append(chart(title, [Curve(title, history.series[column], "other")]))
    if "seconds" in history.series:
        charts.append(
            chart("seconds an epoch", [Curve("seconds", _differences(history.series["seconds"]), "other")], log=False)
        )
    lead = "A ring marks the best epoch." if record.best_epoch else None
    return section("Curves", grid(charts), lead=lead)


def _of_classes(record: RunRecord, name: str, members: Sequence[str]) -> Markup:
    """Return the chart of a metric of single classes or outputs: of those that are worst at the end."""
    series = record.history.series
    columns = [next(c for c in (f"{VALIDATION}{member}", member) if c in series) for member in members]
    sign = 1 if larger_is_better(record, columns[0]) else -1
    finite = [column for column in columns if np.isfinite(record.history.last.get(column, np.nan))]
    worst = sorted(finite, key=lambda column: sign * record.history.last[column])[:MOST_CLASSES]
    shown = [*worst, *(column for column in finite if column == record.best_by and column not in worst)]
    curves = [
        Curve(
            words(column.removeprefix(VALIDATION).removeprefix(f"{name}_")),
            series[column],
            f"run-{number}",
            record.best_epoch if column == record.best_by else 0,
        )
        for number, column in enumerate(shown)
    ]
    note = f"The worst {len(worst)} of {len(columns)} at the end." if len(columns) > len(worst) else None
    return chart(f"{words(name)} of each", curves[::-1], log=False, note=note)


def curves_of_several(records: Sequence[RunRecord]) -> Markup:
    """Return the charts in which each run has a curve: of the validation data where there is any."""
    shown = records[:MOST_RUNS]
    names = list(dict.fromkeys(name for record in shown for name in record.history.families))
    charts = []
    for name in names[:MOST_CHARTS]:
        curves = []
        for number, record in enumerate(shown):
            series = record.history.series
            column = next((c for c in (f"{VALIDATION}{name}", name) if c in series), None)
            if column is not None:
                of_training = "" if column.startswith(VALIDATION) else " (training)"
                best = record.best_epoch if column == record.best_by else 0
                curves.append(Curve(f"{record.name}{of_training}", series[column], f"run-{number}", best))
        charts.append(chart(words(name), curves[::-1], log=name == "cost"))
    left_out = len(records) - len(shown)
    lead = "of the validation data, where a run has any" + (f"; without the last {left_out} runs" if left_out else "")
    return section("Curves", grid(charts), lead=f"Costs and metrics {lead}. A ring marks the best epoch.")


def _differences(series: Series) -> Series:
    """Return the seconds of each epoch from those since the start; where the curve is thinned, their mean."""
    epochs, values = series
    per_epoch = np.diff(values, prepend=0.0) / np.diff(epochs, prepend=0)
    return Series(epochs, np.maximum(per_epoch, 0))

"""The report as one HTML page, which needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files

import numpy as np

from dbp.metrics.metric_set import VALIDATION
from dbp.report.confusion import confusion_of
from dbp.report.curves import MOST_RUNS, curves_of, curves_of_several
from dbp.report.events import events_of
from dbp.report.head import head_of, missing_of, sentence, state_of
from dbp.report.markup import Content, Markup, figure, section, table, tag
from dbp.report.rank_times import rank_times_of
from dbp.report.record import RunRecord
from dbp.report.settings import differences_table, settings_of
from dbp.report.trace import trace_of
from dbp.text import count_text, duration
from dbp.text import figure as number_text
from dbp.version import VERSION

GENERATOR = '<meta name="generator" content="dbp report'
# What a browser may load for the page: its own style and images; no script, and nothing from anywhere else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MOST_COLUMNS = 5  # of costs and metrics in the table of several runs
NOTHING: Mapping[str, Sequence[Markup]] = {}


def page(
    records: Sequence[RunRecord], of_data: Mapping[str, Sequence[Markup]] = NOTHING, refresh_seconds: int = 0
) -> str:
    """Return the report of one run or several.

    Args:
        records: the runs.
        of_data: sections about each run's model on a data set, by the path of the run.
        refresh_seconds: after which a browser loads the page anew; 0 for never.
    """
    one = len(records) == 1
    title = records[0].name if one else f"{len(records)} runs"
    extra = [of_data.get(str(record.path), ()) for record in records]
    with np.errstate(all="ignore"):  # what a damaged history holds may overflow
        body = of_one_run(records[0], extra[0]) if one else _of_several(records, extra)
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    live = f"This page is loaded anew every {refresh_seconds} seconds. " if refresh_seconds else ""
    foot = tag("footer", f"{live}Written by dbp {VERSION}, {written}.")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=f"dbp report {VERSION}"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=refresh_seconds) if refresh_seconds else None,
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title} · dbp report"),
        tag("style", Markup(files("dbp.report").joinpath("style.css").read_text())),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body, foot)), lang='en')}\n"


def of_one_run(record: RunRecord, of_data: Sequence[Markup] = ()) -> Markup:
    """Return all parts of the report of a run, those about its model on a data set after the curves."""
    from_run = [] if of_data else [confusion_of(record.tables, record.classes_by_target)]
    parts = [head_of(record), curves_of(record), *from_run, *of_data, rank_times_of(record.ranks)]
    return tag("article", *parts, trace_of(record.trace), events_of(record), settings_of(record))


def _of_several(records: Sequence[RunRecord], of_data: Sequence[Sequence[Markup]]) -> Markup:
    """Return the comparison of several runs, and the parts of each folded below."""
    names = [_name(record, number) for number, record in enumerate(records)]
    head = tag("header", tag("p", "dbp report", class_="kind"), tag("h1", count_text(len(records), "run")))
    table_of_runs = section("Runs", _table_of_runs(records, names), differences_table(records, names))
    folded = [
        tag("details", tag("summary", name, " ", state_of(record)), _details(record, parts), class_="run")
        for name, record, parts in zip(names, records, of_data, strict=True)
    ]
    return tag("article", head, table_of_runs, curves_of_several(records), section("Each run", folded))


def _details(record: RunRecord, of_data: Sequence[Markup]) -> list[Markup | None]:
    return [
        tag("p", sentence(record), class_="lead"),
        missing_of(record),
        *(of_data or [confusion_of(record.tables, record.classes_by_target)]),
        rank_times_of(record.ranks),
        trace_of(record.trace),
        events_of(record),
        settings_of(record),
    ]


def _name(record: RunRecord, number: int) -> Markup:
    """Return the name of a run with its color."""
    key = tag("i", class_=f"key run-{number}") if number < MOST_RUNS else None
    return tag("span", key, record.name, class_="entry")


def _table_of_runs(records: Sequence[RunRecord], names: Sequence[Markup]) -> Markup:
    """Return a row for each run: its state, its best epoch and the figures of that."""
    rows_of = [record.history.best or record.history.last for record in records]
    figures = list(dict.fromkeys(name for record in records for name in record.history.families))[:MOST_COLUMNS]
    columns = {name: [row.get(f"{VALIDATION}{name}", row.get(name)) for row in rows_of] for name in figures}
    rows: list[list[Content]] = []
    for number, record in enumerate(records):
        values = record.status.values if record.status is not None else {}
        cells = [columns[name][number] for name in figures]
        rows.append(
            [
                names[number],
                state_of(record),
                f"{record.best_epoch or '-'} of {record.history.epochs}",
                *("-" if cell is None else number_text(cell) for cell in cells),
                duration(values["seconds"]) if "seconds" in values else "-",
                values.get("ranks", "-"),
            ]
        )
    head = ["run", "state", "best epoch", *(name.replace("_", " ") for name in figures), "time", "ranks"]
    note = "Figures are those of the best epoch, of the validation data where there is any."
    return figure(None, table(head, rows), note=note, class_="card full")

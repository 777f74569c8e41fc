"""The head of a report: what the run is, its state, its key figures, and what could not be read."""

from __future__ import annotations

from dbp.metrics.metric_set import VALIDATION
from dbp.report.events import results_on_test_data
from dbp.report.markup import Content, Markup, grid, tag
from dbp.report.record import RunRecord
from dbp.text import count_text, duration
from dbp.text import figure as number_text

MOST_TILES = 4  # of costs and metrics
STATES = ("finished", "running", "stopped", "failed", "lost")


def state_of(record: RunRecord) -> Markup:
    """Return the state of a run as a mark."""
    style = record.state if record.state in STATES else "unknown"
    return tag("span", record.state if style != "unknown" else "state unknown", class_=f"state {style}")


def head_of(record: RunRecord) -> Markup:
    """Return the head of the report of one run."""
    return tag(
        "header",
        tag("p", "dbp report", class_="kind"),
        tag("h1", record.name, " ", state_of(record)),
        tag("p", sentence(record), class_="lead"),
        grid(_tiles(record), class_="tiles"),
        _test(record),
        missing_of(record),
    )


def sentence(record: RunRecord) -> str:
    """Return how far a run has come, in one sentence."""
    values = record.status.values if record.status is not None else {}
    epochs, of = values.get("epoch", record.history.epochs), values.get("epochs", record.config.get("epochs"))
    done = (
        f"{epochs:,} of {count_text(of, 'epoch')}"
        if isinstance(of, int) and of != epochs
        else count_text(epochs, "epoch")
    )
    left = record.status.left if record.status is not None and record.state == "running" else None
    best = f"; the best is epoch {record.best_epoch}, by {words(record.best_by)}" if record.best_epoch else ""
    return f"{done}{best}{f'; about {duration(left)} left' if left else ''}."


def words(column: str) -> str:
    """Return the name of a column of the history in words."""
    return column.replace("_", " ")


def _tiles(record: RunRecord) -> list[Markup]:
    """Return the key figures: costs and metrics of the best epoch, else of the last; time and ranks."""
    history = record.history
    row, when = (
        (history.best, f"epoch {record.best_epoch}, the best") if record.best_epoch else (history.last, "last epoch")
    )
    columns = [next((c for c in (f"{VALIDATION}{name}", name) if c in row), None) for name in history.families]
    tiles = [_tile(words(column), number_text(row[column]), when) for column in columns[:MOST_TILES] if column]
    values = record.status.values if record.status is not None else {}
    step, seconds = (
        values.get("step", record.progress.get("step")),
        values.get("seconds", record.progress.get("elapsed")),
    )
    if isinstance(seconds, (int, float)):
        tiles.append(_tile("training time", duration(seconds), f"{step:,} steps" if isinstance(step, int) else None))
    ranks, host = (values.get(name, record.provenance.get(name)) for name in ("ranks", "host"))
    return tiles + ([_tile("ranks", f"{ranks:,}", host and f"host {host}")] if isinstance(ranks, int) else [])


def _tile(name: str, value: str, when: Content) -> Markup:
    return tag(
        "div", tag("span", name, class_="name"), tag("b", value), tag("span", when, class_="when"), class_="tile"
    )


def _test(record: RunRecord) -> Markup | None:
    """Return the results on the test data, as the log has them, without those of single classes and outputs."""
    parts = results_on_test_data(record.log).split("  ")
    single = {words(name) for members in record.history.families.values() for name in members}
    shown = [part for part in parts if part and part.rpartition(" ")[0] not in single]
    return tag("p", tag("b", "Test data"), [tag("span", part) for part in shown], class_="test") if shown else None


def missing_of(record: RunRecord) -> Markup | None:
    """Return a note on what could not be read."""
    lines = [tag("li", line) for line in record.missing]
    return (
        tag(
            "details",
            tag("summary", f"Not shown: {count_text(len(lines), 'thing')}"),
            tag("ul", lines),
            class_="missing",
        )
        if lines
        else None
    )

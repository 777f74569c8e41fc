"""What happened to a run and when: its starts, what it resumed from, warnings, and how it ended, from its log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dbp.report.markup import Markup, figure, section, tag
from dbp.report.record import RunRecord
from dbp.text import brief

LINE = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\S* (.*)")
# The lines of a log that tell of an event, and its kind.
KINDS = {
    "start": re.compile(r"--- started"),
    "resume": re.compile(r"resumed from |continues at epoch |note: "),
    "warning": re.compile(r"warning: |the cost is not finite|the gradient is not finite"),
    "stop": re.compile(r".*: (saved|stopped after) step \d+"),
    "end": re.compile(r".*: \d+ epochs?, \d+ steps? in "),
}
TEST = "test: "  # what the line with the results on the test data begins with
MOST_EVENTS = 40  # the last ones
MOST_LETTERS, MOST_RESULTS = 300, 4000


@dataclass(frozen=True)
class Event:
    """An event in the life of a run.

    Args:
        day: the date.
        time: of that day, in UTC.
        kind: start, resume, warning, stop or end.
        words: what happened.
    """

    day: str
    time: str
    kind: str
    words: str


def events_in(lines: Sequence[str]) -> list[Event]:
    """Return the events that the lines of a log tell of."""
    found = []
    for line in lines:
        match = LINE.match(line)
        if match is None:
            continue
        day, time, words = match.groups()
        kind = next((kind for kind, pattern in KINDS.items() if pattern.match(words)), None)
        if kind is not None:
            found.append(Event(day, time, kind, words.removeprefix("--- ").removeprefix("warning: ")[:MOST_LETTERS]))
    return found


def results_on_test_data(lines: Sequence[str]) -> str:
    """Return the last results on the test data that the lines of a log tell of, as text; "" without any."""
    matches = (LINE.match(line) for line in reversed(lines))
    words = (match[3] for match in matches if match)
    return next((text.removeprefix(TEST)[:MOST_RESULTS] for text in words if text.startswith(TEST)), "")


def events_of(record: RunRecord) -> Markup:
    """Return the section on what happened to a run."""
    found = events_in(record.log)
    rows, day = [], ""
    for event in found[-MOST_EVENTS:]:
        when = event.time if event.day == day else f"{event.day} {event.time}"
        day = event.day
        rows.append(tag("li", tag("time", when), tag("span", event.words), class_=event.kind))
    if record.status is not None and record.state in ("failed", "lost"):
        words = (
            record.status.values.get("message", "") if record.state == "failed" else "killed before it could say why"
        )
        rows.append(
            tag("li", tag("time", record.state), tag("span", brief(words, MOST_LETTERS).strip("'\"")), class_="warning")
        )
    starts = sum(event.kind == "start" for event in found)
    note = (
        f"The last {MOST_EVENTS} of {len(found):,} events; times are UTC."
        if len(found) > MOST_EVENTS
        else "Times are UTC."
    )
    lead = f"Started {starts} times." if starts > 1 else None
    return section(
        "What happened",
        figure(None, tag("ol", rows, class_="events"), note=note, class_="card full") if rows else None,
        lead=lead,
    )

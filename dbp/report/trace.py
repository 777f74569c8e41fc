"""A small picture of the timeline of some steps, from the trace that a run has written for Perfetto (trace.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from dbp.report.markup import Markup, figure, section, tag
from dbp.report.stages import STAGES

STAGE, STEP = "stages", "steps"  # the categories of spans in the file
MOST_SPANS, MOST_RANKS, MOST_STEPS = 4000, 12, 3  # that are drawn
LEFT, WIDTH, ROW = 60.0, 1000.0, 24.0
TICKS = 6
LATEST = 1e15  # microseconds


class Span(NamedTuple):
    """A time in which a rank did one thing.

    Args:
        rank: its number.
        category: STAGE or STEP.
        name: of the stage, or of the step.
        start: in milliseconds.
        end: in milliseconds.
    """

    rank: int
    category: str
    name: str
    start: float
    end: float


def spans_in(text: str) -> list[Span]:
    """Return the stages and steps in a file of trace events, by their start; raise ValueError if it is none."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    events = content.get("traceEvents") if isinstance(content, dict) else content
    if not isinstance(events, list):
        raise ValueError("it holds no list of events")  # noqa: TRY004  one error for all that is wrong
    return sorted((span for event in events if (span := _span(event)) is not None), key=lambda span: span.start)


def _span(event: Any) -> Span | None:
    """Return an event as a span; None if it is none of those that are drawn."""
    if not isinstance(event, dict) or event.get("ph") != "X" or event.get("cat") not in (STAGE, STEP):
        return None
    rank, name, start, length = (event.get(key) for key in ("pid", "name", "ts", "dur"))
    if type(rank) is not int or not isinstance(name, str) or not isinstance(start, (int, float)):
        return None
    if not isinstance(length, (int, float)) or not (abs(start) < LATEST and 0 < length < LATEST):
        return None
    return Span(rank, str(event["cat"]), name, start / 1e3, (start + length) / 1e3)


def trace_of(spans: Sequence[Span]) -> Markup:
    """Return the section with the timeline of the first steps; empty without any spans."""
    ranks = sorted({span.rank for span in spans})[:MOST_RANKS]
    steps = [span for span in spans if span.category == STEP and ranks and span.rank == ranks[0]][:MOST_STEPS]
    until = steps[-1].end if steps else math.inf
    shown = [s for s in spans if s.category == STAGE and s.rank in ranks and s.start < until][:MOST_SPANS]
    if not shown:
        return Markup()
    first, last = min(span.start for span in shown), min(until, max(span.end for span in shown))
    height = ROW * len(ranks) + 28

    def pixel(moment: float) -> float:
        return LEFT + (WIDTH - LEFT) * (min(moment, last) - first) / ((last - first) or 1.0)

    bars = [_bar(span, ranks.index(span.rank), pixel) for span in shown]
    names = [tag("text", f"rank {rank}", x=0, y=f"{ROW * i + 15:.0f}") for i, rank in enumerate(ranks)]
    ticks = [
        tag(
            "text",
            f"{(last - first) * i / TICKS:.3g} ms",
            x=f"{LEFT + (WIDTH - LEFT) * i / TICKS:.1f}",
            y=height - 6,
            class_="x",
        )
        for i in range(TICKS)
    ]
    label = f"what {len(ranks)} ranks did in {last - first:.3g} ms"
    svg = tag("svg", bars, names, ticks, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=label)
    drawn = tag("div", tag("div", svg, class_="timeline"), class_="scroll", tabindex=0)
    lead = f"The first {len(steps)} steps of the trace" if steps else "The beginning of the trace"
    note = "The colors are those of the stages above. Perfetto (ui.perfetto.dev) shows all of trace.json."
    return section(
        "Timeline", figure(None, drawn, note=note, class_="card full"), lead=f"{lead}, {last - first:.3g} ms."
    )


def _bar(span: Span, row: int, pixel: Any) -> Markup:
    left, right = pixel(span.start), pixel(span.end)
    stage = span.name if span.name in STAGES else "other"
    words = tag("title", f"rank {span.rank}: {span.name}, {span.end - span.start:.3g} ms")
    return tag(
        "rect",
        words,
        x=f"{left:.2f}",
        y=f"{ROW * row:.1f}",
        width=f"{max(0.3, right - left):.2f}",
        height=ROW - 4,
        class_=f"stage-{stage}",
    )

"""The timeline of a trace."""

import json

import pytest

from dbp.report.trace import spans_in, trace_of


def event(rank, name, start, length, category="stages"):
    return {"ph": "X", "cat": category, "name": name, "pid": rank, "tid": 0, "ts": start, "dur": length}


def test_the_first_steps_of_a_trace_are_drawn():
    events = [event(rank, name, 1000 * i, 900) for rank in (0, 1) for i, name in enumerate(("forward", "<b>", "sum"))]
    events += [event(0, f"step {i}", 1000 * i, 1000, "steps") for i in range(9)]
    events += [
        {"ph": "M"},
        7,
        event(0, "x", "1", 2),
        event("a", "x", 1, 2),
        event(0, "x", 1, float("nan")),
        event(0, 1, 1, 2),
    ]
    spans = spans_in(json.dumps({"traceEvents": events}))
    assert len(spans) == 15
    drawn = trace_of(spans)
    assert drawn.count("<rect") == 6
    assert 'class="stage-other"' in drawn
    assert "<b>" not in drawn
    assert "The first 3 steps of the trace, 2.9 ms." in drawn
    assert trace_of([]) == ""


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, "3", '{"traceEvents": 5}'])
def test_what_is_no_trace_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        spans_in(text)

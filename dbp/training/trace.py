"""The trace of some steps: what each rank did when, in Chrome's trace event format, which Perfetto opens."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from dbp.errors import UserError
from dbp.parallel.ranks.clock_offsets import Gathered, gather_with_offsets
from dbp.parallel.ranks.timeline import Span, Timeline
from dbp.run.run import Run
from dbp.saving.saver import RunSaver, Say
from dbp.text import count_text

NAME = "trace.json"
STAGES, BUCKETS, MESSAGES = 0, 1, 2  # numbers of the tracks of a rank
TRACKS = {STAGES: "steps and stages", BUCKETS: "buckets", MESSAGES: "messages"}
MICROSECONDS = 1e6  # of a second
Taken = TypeVar("Taken")


class Trace:
    """The trace of some steps of a run, written to its folder after the last of them; follow() is collective.

    Args:
        run: the run, before its next step.
        saver: of the run.
        say: prints a line.
        steps: the first and the last step of the trace.

    Raises:
        UserError: the run has no folder.
    """

    def __init__(self, run: Run, saver: RunSaver, say: Say, steps: tuple[int, int]):
        if saver.folder is None:
            error = UserError("a trace is written to the run's folder, but out is None; set it to one")
            error.on_all_ranks = True  # as all have the same settings
            raise error
        self._run, self._saver, self._say = run, saver, say
        self._first, self._last = steps
        self._begun: list[tuple[int, float]] = []  # steps, and when each of them began
        total = run.settings.epochs * run.batches.steps
        if not run.progress.step < self._last or self._first > total:
            where = f"the run is at step {run.progress.step} of {total}"
            say(f"warning: no trace is written of {self._text}, as {where}")

    @property
    def _text(self) -> str:
        return f"step {self._first}" if self._first == self._last else f"steps {self._first} to {self._last}"

    def follow(self, steps: Iterable[Taken]) -> Iterator[Taken]:
        """Yield the steps, and record those of the trace, with all that is done before the next one."""
        self._before_step()
        for taken in steps:
            yield taken
            if self._begun and self._run.progress.step >= self._last:
                self.write()
            self._before_step()

    def _before_step(self) -> None:
        """Begin to record the next step if it is one of the trace."""
        clock, step = self._run.comm.clock, self._run.progress.step + 1
        if self._first <= step <= self._last:
            clock.enter(clock.current)  # the step begins with a stage of its own
            if clock.timeline is None:
                clock.timeline = Timeline()
            if self._begun and self._begun[-1][0] == step:  # after the end of an epoch
                self._begun.pop()
            self._begun.append((step, clock.since))

    def write(self) -> None:
        """Write what is recorded, if anything is; collective."""
        clock = self._run.comm.clock
        clock.enter(clock.current)
        timeline, clock.timeline = clock.timeline, None
        steps, self._begun = self._spans_of_steps(clock.since), []
        if timeline is None or not steps:
            return
        content = {"host": socket.gethostname(), "steps": steps, **_plain(timeline)}
        gathered = gather_with_offsets(self._run.comm, json.dumps(content).encode())
        self._saver.write_beside(NAME, trace_text(gathered))
        self._say(f"trace: {count_text(len(steps), 'step')} of all ranks in {NAME}; open it at ui.perfetto.dev")

    def _spans_of_steps(self, end: float) -> list[Span]:
        """Return the span of each step that is done, up to the next one."""
        done = [(number, start) for number, start in self._begun if number <= self._run.progress.step]
        ends = [*(start for _, start in done[1:]), end]
        return [Span(f"step {number}", start, stop) for (number, start), stop in zip(done, ends, strict=False)]


def _plain(timeline: Timeline) -> dict[str, list[Span]]:
    """Return the spans of a timeline, by the kind of their track."""
    return {"stages": timeline.stages, "buckets": timeline.buckets, "messages": timeline.messages}


# --- the file -------------------------------------------------------------------------------------------


def trace_text(gathered: Iterable[Gathered]) -> str:
    """Return the content of the file.

    Args:
        gathered: of each rank, what Trace has recorded, in the order of ranks.
    """
    ranks = [(one.offset, json.loads(one.content)) for one in gathered]
    zero = min((start + offset for offset, ranks_own in ranks for _, start, *_ in ranks_own["steps"]), default=0.0)
    events: list[dict[str, Any]] = []
    for rank, (offset, content) in enumerate(ranks):
        events += _events(rank, offset - zero, content)
    lines = ",\n".join(json.dumps(event) for event in events)
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'


def _events(rank: int, offset: float, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a rank: names, steps and stages, then what may overlap, as asynchronous events."""
    yield _name("process_name", rank, STAGES, f"rank {rank} on {content['host']}")
    yield {"ph": "M", "name": "process_sort_index", "pid": rank, "tid": STAGES, "args": {"sort_index": rank}}
    for track, kind in enumerate(("stages", "buckets", "messages")):
        if content[kind]:
            yield _name("thread_name", rank, track, TRACKS[track])
    for kind in ("steps", "stages"):
        for name, start, end, details in content[kind]:
            times = {"ts": _micro(start + offset), "dur": round(_micro(end + offset) - _micro(start + offset), 3)}
            yield {"ph": "X", "cat": kind, "name": name, "pid": rank, "tid": STAGES, **times, "args": details}
    for kind, track in (("buckets", BUCKETS), ("messages", MESSAGES)):
        for number, (name, start, end, details) in enumerate(content[kind]):
            common = {"cat": kind, "name": name, "pid": rank, "tid": track, "id": f"{rank}.{track}.{number}"}
            yield {"ph": "b", **common, "ts": _micro(start + offset), "args": details}
            yield {"ph": "e", **common, "ts": _micro(end + offset)}


def _name(kind: str, rank: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": rank, "tid": track, "args": {"name": name}}


def _micro(seconds: float) -> float:
    return round(seconds * MICROSECONDS, 3)

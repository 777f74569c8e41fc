"""The timeline of a rank: when it was in which stage, and when its buckets and messages were on their way."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import NamedTuple


class Span(NamedTuple):
    """A span of time.

    Args:
        name: what took place.
        start: in seconds of the rank's own clock.
        end: likewise.
        details: about it, by name.
    """

    name: str
    start: float
    end: float
    details: Mapping[str, int | str] = {}


class Timeline:
    """What one rank does from now on. Several threads may add to it.

    Attributes:
        since: the time at which it begins; a clock's seconds, as all times here.
        stages: the rank's stages, one after the other.
        buckets: parts of the vector that is summed, from the first work on one until its sum has arrived.
        messages: those that the rank sends, from the moment it starts to.
    """

    def __init__(self) -> None:
        self.since = time.perf_counter()
        self.stages: list[Span] = []
        self.buckets: list[Span] = []
        self.messages: list[Span] = []
        self._open: dict[Hashable, tuple[float, str, Mapping[str, int | str]]] = {}

    def add_stage(self, name: str, start: float, end: float) -> None:
        """Add a stage that has ended; of one that began before the timeline, the part since then."""
        self.stages.append(Span(name, max(start, self.since), end))

    def open(self, key: Hashable, name: str, details: Mapping[str, int | str] = {}) -> None:
        """Note that a bucket or message begins now.

        Args:
            key: to close it by.
            name: of the span.
            details: about it.
        """
        self._open[key] = time.perf_counter(), name, details

    def close(self, spans: list[Span], key: Hashable) -> None:
        """Add to spans what began with open() and ends now; do nothing if that was before the timeline."""
        if (begun := self._open.pop(key, None)) is not None:
            start, name, details = begun
            spans.append(Span(name, start, time.perf_counter(), details))

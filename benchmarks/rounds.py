"""Measurements by programs that run one after the other, in several rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from commands import Notes, say
from programs import FailedError, Program
from tables import Results


@dataclass
class Measured:
    """The results of all rounds.

    Args:
        rounds: the results of each round.
        versions: of dbp, its peers, and their libraries.
    """

    rounds: list[Results]
    versions: dict[str, str]


def measured_or_noted(program: Program, notes: Notes, *words: str) -> dict[str, Any] | None:
    """Return what a program measured. If a peer fails, note that and try once more, then return None."""
    for _ in range(2):
        try:
            return program.measure(*words)
        except FailedError as error:
            if program.name == "dbp":
                raise
            notes.append(f"{program.name} failed: {error}")
            say(notes[-1])
    return None


def measure_all(programs: list[Program], cases: list[str], rounds: int, notes: Notes, *words: str) -> Measured:
    """Run all programs in turn, in several rounds; leave out a peer once it has failed."""
    measured, running = Measured([], {}), list(programs)
    for number in range(rounds):
        results: Results = {}
        for program in list(running):
            start = time.perf_counter()
            say(f"round {number + 1} of {rounds}: {program.name} on {', '.join(cases)}")
            told = measured_or_noted(program, notes, "--cases", ",".join(cases), *words)
            if told is None:
                running.remove(program)
                continue
            results |= told["results"]
            measured.versions |= told["versions"]
            say(f"    {time.perf_counter() - start:.0f} s")
        measured.rounds.append(results)
    complete = set.intersection(*map(set, measured.rounds))  # what failed in any round is left out of all
    measured.rounds = [{v: by_case for v, by_case in r.items() if v in complete} for r in measured.rounds]
    return measured

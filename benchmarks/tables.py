"""Medians and ratios of measurements, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Results = dict[str, dict[str, dict[str, Any]]]  # measurements by variant and case
DISTURBED = 0.1  # cores that others used on average, above which a time is marked
OWN = ("dbp",)


@dataclass(frozen=True)
class Comparison:
    """The columns of a table.

    Args:
        columns: times, and the variants of which each takes the best.
        ratios: multiples of dbp's time, and the variants of which each takes the best.
    """

    columns: dict[str, tuple[str, ...]]
    ratios: dict[str, tuple[str, ...]]


def best(results: Results, variants: Iterable[str], case: str) -> float | None:
    """Return the shortest time of some variants in one round; None if there is none."""
    return min((results[v][case]["ms"] for v in variants if case in results.get(v, {})), default=None)


def median_time(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """Return the median over rounds of the best of some variants."""
    times = [best(results, variants, case) for results in rounds]
    return None if None in times else statistics.median(times)


def median_ratio(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """Return the median over rounds of the best of some variants, as a multiple of dbp's time in the same round."""
    peer = [best(results, variants, case) for results in rounds]
    own = [best(results, OWN, case) for results in rounds]
    return None if None in (*peer, *own) else statistics.median(a / b for a, b in zip(peer, own, strict=True))


def most_used_by_others(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """Return the most cores that others used in any round while some variants of a case were measured."""
    found = [results[v][case]["others"] for results in rounds for v in variants if case in results.get(v, {})]
    return max((cores for cores in found if cores is not None), default=None)


def summary(comparison: Comparison, rounds: list[Results], case: str) -> dict[str, dict[str, float | None]]:
    """Return a case's milliseconds and others' processor use by column, and the ratios."""
    columns, ratios = comparison.columns.items(), comparison.ratios.items()
    return {
        "ms": {name: median_time(rounds, variants, case) for name, variants in columns},
        "others": {name: most_used_by_others(rounds, variants, case) for name, variants in columns},
        "ratios": {name: median_ratio(rounds, variants, case) for name, variants in ratios},
    }


def line(title: str, cells: Iterable[str]) -> str:
    """Return a line of a table."""
    return (title.ljust(20) + "".join(f"{cell:>12s}" for cell in cells)).rstrip()


def number(value: float | None, digits: int = 2, mark: str = " ") -> str:
    """Return a number as text with a mark behind it, or a dash for None."""
    return ("-" if value is None else f"{value:.{digits}f}") + mark


def time_table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """Return a table of milliseconds and ratios."""
    some = next(iter(rows.values()))
    lines = [line(title, (f"{name} " for name in (*some["ms"], *some["ratios"])))]
    for case, row in rows.items():
        marks = {name: "*" if (cores or 0) > DISTURBED else " " for name, cores in row["others"].items()}
        times = [number(ms, 2 if (ms or 1) >= 1 else 3, marks[name]) for name, ms in row["ms"].items()]
        lines.append(line(case, [*times, *map(number, row["ratios"].values())]))
    return "\n".join(lines)


def disturbance_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return a table of the processor time that others used."""
    lines = [f"cores used by others, on average, in the worst round (above, * marks times with more than {DISTURBED})"]
    lines += [line(case, map(number, row["others"].values())) for case, row in rows.items()]
    return "\n".join(lines)


def spread_table(rounds: list[Results], variants: Iterable[str], cases: Iterable[str]) -> str:
    """Return a table of the least and the largest figures of all rounds, and of the names of the best peers.

    Args:
        rounds: the results of each round.
        variants: the peers.
        cases: the cases.
    """
    lines = [line("least to largest", ("dbp ms", "best ms", "best/dbp", "best peer"))]
    for case in cases:
        own = [results["dbp"][case]["ms"] for results in rounds]
        peers = [min(((r[v][case]["ms"], v) for v in variants if case in r.get(v, {})), default=None) for r in rounds]
        found = [peer for peer in peers if peer]
        ratios = [peer[0] / ms for peer, ms in zip(peers, own, strict=True) if peer]
        names = ", ".join(sorted({name for _, name in found}))
        lines.append(line(case, (span(own), span([ms for ms, _ in found]), span(ratios))) + f"   {names}")
    return "\n".join(lines)


def span(values: list[float]) -> str:
    """Return the least and the largest of some numbers as text."""
    if not values:
        return "-"
    digits = 3 if max(values) < 1 else 2 if max(values) < 100 else 1
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"


MEMORY = ("dbp", "DDP", "PyTorch")  # variants whose memory is measured


def memory_table(results: Results, cases: list[str], ranks: int) -> str:
    """Return a table of the memory of a process: the framework's own, and the peak that the steps add.

    Args:
        results: of one round.
        cases: the cases.
        ranks: of dbp and of DDP; PyTorch does their work in one process.
    """
    variants, titles = [v for v in MEMORY if v in results], {"before_mb": "before", "grown_mb": "steps"}
    times = {"DDP": 1, "PyTorch": ranks}  # processes of dbp beside one of the peer's
    peers = [variant for variant in variants if variant in times]
    columns = [f"{v} {title} " for v in variants for title in titles.values()]
    lines = [line("MB of a process", (*columns, *(f"{peer}/dbp " for peer in peers)))]
    for case in cases:
        found = {v: results[v].get(case, {}) for v in variants}
        cells = [number(found[v].get(key), 1) for v in variants for key in titles]
        grown = {v: found[v].get("grown_mb") for v in variants}
        ratios = [number(None if grown[p] is None else grown[p] / (times[p] * grown["dbp"])) for p in peers]
        lines.append(line(case, (*cells, *ratios)))
    return "\n".join(
        [
            *lines,
            "before: after imports, the start of MPI or Gloo, and steps of the smallest network; steps: the most",
            "that the case added; memory that ranks share counts in equal parts for each of them; ratios are those of",
            f"steps, for PyTorch's one process beside {ranks} ranks of dbp",
        ]
    )

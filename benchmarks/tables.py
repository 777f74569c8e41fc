"""Figures out of measurements, and tables out of figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Results = dict[str, dict[str, dict[str, Any]]]  # measurements by variant and case
DISTURBED = 0.1  # cores that others used on average, above which a time is marked
COLUMNS: dict[str, tuple[str, ...]] = {  # of the table, and the variants of which each takes the best
    "dbp": ("dbp",),
    "DDP": ("DDP",),
    "best DDP": ("DDP", "DDP plain", "DDP channels last"),
    "PyTorch": ("PyTorch", "PyTorch channels last"),
    "JAX": ("JAX",),
}
PEERS = tuple(variant for column in ("best DDP", "PyTorch", "JAX") for variant in COLUMNS[column])


def best(results: Results, variants: Iterable[str], case: str) -> float | None:
    """The shortest time of some variants in one round; None if there is none."""
    return min((results[v][case]["ms"] for v in variants if case in results.get(v, {})), default=None)


def median_time(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """The median over rounds of the best of some variants."""
    times = [best(results, variants, case) for results in rounds]
    return None if None in times else statistics.median(times)


def median_ratio(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """The median over rounds of the best of some variants, as a multiple of dbp's time in the same round."""
    peer = [best(results, variants, case) for results in rounds]
    own = [best(results, COLUMNS["dbp"], case) for results in rounds]
    return None if None in (*peer, *own) else statistics.median(a / b for a, b in zip(peer, own, strict=True))


def most_used_by_others(rounds: list[Results], variants: Iterable[str], case: str) -> float | None:
    """The most cores that others used, in any round, while these variants of a case were measured."""
    found = [results[v][case]["others"] for results in rounds for v in variants if case in results.get(v, {})]
    return max((cores for cores in found if cores is not None), default=None)


def summary(rounds: list[Results], case: str) -> dict[str, Any]:
    """Of one case: milliseconds and others' use of the processors by column, and the ratios."""
    return {
        "ms": {name: median_time(rounds, variants, case) for name, variants in COLUMNS.items()},
        "others": {name: most_used_by_others(rounds, variants, case) for name, variants in COLUMNS.items()},
        "DDP/dbp": median_ratio(rounds, COLUMNS["DDP"], case),
        "best/dbp": median_ratio(rounds, PEERS, case),
    }


def line(title: str, cells: Iterable[str]) -> str:
    """A line of a table."""
    return (title.ljust(18) + "".join(f"{cell:>12s}" for cell in cells)).rstrip()


def number(value: float | None, digits: int = 2, mark: str = " ") -> str:
    """With a mark behind it; a dash for none."""
    return ("-" if value is None else f"{value:.{digits}f}") + mark


def time_table(rows: dict[str, dict[str, Any]]) -> str:
    """Milliseconds of a step, and the ratios."""
    lines = [line("ms per step", (f"{name} " for name in (*COLUMNS, "DDP/dbp", "best/dbp")))]
    for case, row in rows.items():
        marks = {name: "*" if (cores or 0) > DISTURBED else " " for name, cores in row["others"].items()}
        times = [number(ms, 2 if (ms or 1) >= 1 else 3, marks[name]) for name, ms in row["ms"].items()]
        lines.append(line(case, [*times, number(row["DDP/dbp"]), number(row["best/dbp"])]))
    return "\n".join(lines)


def disturbance_table(rows: dict[str, dict[str, Any]]) -> str:
    """What others used of the processors."""
    lines = [f"cores used by others, on average, in the worst round (above, * marks times with more than {DISTURBED})"]
    lines += [line(case, map(number, row["others"].values())) for case, row in rows.items()]
    return "\n".join(lines)


def memory_table(results: Results, cases: list[str]) -> str:
    """What a rank's steps add, at their highest, to what its framework takes for itself."""
    variants, titles = [v for v in ("dbp", "DDP") if v in results], {"before_mb": "before", "grown_mb": "steps"}
    lines = [line("MB of a rank", (f"{v} {title} " for v in variants for title in titles.values()))]
    for case in cases:
        lines += [line(case, (number(results[v].get(case, {}).get(key), 1) for v in variants for key in titles))]
    return "\n".join(
        [
            *lines,
            "before: after imports, the start of MPI or Gloo, and steps of the smallest network; steps: the most",
            "that the case added; memory that ranks share counts for each of them in full",
        ]
    )

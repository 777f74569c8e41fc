"""Where the time of a run went, by stage and rank, and how much memory the ranks had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbp.report.markup import Markup, figure, grid, section, tag
from dbp.report.record import RankTimes
from dbp.report.stages import STAGES
from dbp.text import duration, size

MOST_RANKS = 12  # that have a bar of their own: those that work most and least


def rank_times_of(ranks: Sequence[RankTimes]) -> Markup:
    """Return the section on the time of the ranks; empty if it is not known."""
    ranks = [rank for rank in ranks if sum(rank.seconds.values()) > 0]
    if not ranks:
        return Markup()
    longest = max(sum(rank.seconds.values()) for rank in ranks)
    rows = [_row("all ranks" if len(ranks) > 1 else "rank 0", _mean(ranks), longest, "mean")]
    if len(ranks) > 1:
        rows += [_row(f"rank {r.rank}", r.seconds, longest, r.host) for r in _shown(ranks)]
    used = [stage for stage in STAGES if any(_share(rank.seconds, stage) for rank in ranks)]
    legend = [tag("span", tag("i", class_=f"key stage-{stage}"), stage, class_="entry") for stage in used]
    note = f"The {MOST_RANKS} of {len(ranks):,} ranks that work most and least." if len(ranks) > MOST_RANKS else None
    time = figure(
        "Time by stage", grid(legend, class_="legend"), tag("div", rows, class_="stages"), note=note, class_="card full"
    )
    return section("Time and memory", grid(time, _memory(ranks), class_="grid wide"), lead=_lead(ranks))


def _lead(ranks: Sequence[RankTimes]) -> str:
    mean = _mean(ranks)
    total = sum(mean.values())
    parts = sorted(((mean[stage], stage) for stage in mean), reverse=True)[:2]
    named = " and ".join(f"{seconds / total:.0%} in {stage}" for seconds, stage in parts)
    return f"Of the {duration(total)} since its last start, a rank spent {named}."


def _mean(ranks: Sequence[RankTimes]) -> dict[str, float]:
    return {stage: sum(_share(rank.seconds, stage) for rank in ranks) / len(ranks) for stage in STAGES}


def _share(seconds: Mapping[str, float], stage: str) -> float:
    """Return the seconds of a stage; those of unknown stages count as other."""
    return sum(value for name, value in seconds.items() if name == stage or (stage == "other" and name not in STAGES))


def _work(rank: RankTimes) -> float:
    return sum(rank.seconds.values()) - rank.seconds.get("waiting", 0.0)


def _shown(ranks: Sequence[RankTimes]) -> list[RankTimes]:
    """Return the ranks that have a bar, in their order."""
    if len(ranks) <= MOST_RANKS:
        return list(ranks)
    by_work = sorted(ranks, key=_work)
    return sorted(by_work[: MOST_RANKS // 2] + by_work[-MOST_RANKS // 2 :], key=lambda rank: rank.rank)


def _row(name: str, seconds: Mapping[str, float], longest: float, where: str) -> Markup:
    parts = [(stage, _share(seconds, stage)) for stage in STAGES]
    total = sum(value for _, value in parts)
    bars = [
        tag(
            "i",
            class_=f"stage-{stage}",
            style=f"width:{100 * value / longest:.2f}%",
            title=f"{stage}: {duration(value)} ({value / total:.1%})",
        )
        for stage, value in parts
        if value > 0
    ]
    return tag(
        "div",
        tag("span", tag("b", name), " ", where, class_="name"),
        tag("span", bars, class_="track"),
        tag("span", duration(total), class_="value"),
    )


def _memory(ranks: Sequence[RankTimes]) -> Markup:
    """Return the peak of the memory of the ranks as bars; empty if none is recorded."""
    known = [rank for rank in ranks if rank.memory > 0]
    if not known:
        return Markup()
    most = max(rank.memory for rank in known)
    by_memory = sorted(known, key=lambda rank: -rank.memory)[:MOST_RANKS]
    bars = [
        tag(
            "li",
            tag("span", tag("b", f"rank {rank.rank}"), " ", rank.host, class_="name"),
            tag("span", tag("i", style=f"width:{100 * rank.memory / most:.1f}%"), class_="track"),
            tag("span", size(rank.memory), class_="value"),
        )
        for rank in by_memory
    ]
    note = "The most that a rank had at once, with what it shares with the other ranks of its node."
    return figure("Memory", tag("ol", bars, class_="bars"), note=note, class_="card full")

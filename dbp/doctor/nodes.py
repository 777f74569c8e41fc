"""Examine the nodes that ranks run on: cores and binding, memory, and load by other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dbp.doctor.findings import GOOD, WARNING, Finding
from dbp.doctor.software import RankFacts
from dbp.parallel import Node, placement_hints, placement_warnings
from dbp.text import count_text, size

SHOWN_KINDS = 8  # kinds of nodes that the report names
LITTLE_MEMORY = 1e9  # bytes, too few for larger models


def node_findings(nodes: Sequence[Node], facts: Sequence[RankFacts], threads: int) -> Iterator[Finding]:
    """Report nodes, one line for all that are alike, and then pinning, load and memory."""
    rows = _alike(nodes, facts, threads)
    yield from (Finding("node", GOOD, row) for row in rows[:SHOWN_KINDS])
    if len(rows) > SHOWN_KINDS:
        yield Finding("node", GOOD, f"and {len(rows) - SHOWN_KINDS} more kinds")
    slow, better = placement_warnings(nodes, threads), placement_hints(nodes, threads)
    yield from (Finding.of("pinning", WARNING, text) for text in (*slow, *better))
    if not slow + better:
        yield Finding("pinning", GOOD, _pinning(nodes[0]))
    yield from _busy(nodes, facts, threads)
    yield _memory(nodes, facts)


def _alike(nodes: Sequence[Node], facts: Sequence[RankFacts], threads: int) -> list[str]:
    """Return one line for all nodes that are alike, with the name of the first."""
    alike: dict[str, list[Node]] = {}
    for node in nodes:
        ranks = f"{count_text(len(node.pinned), 'rank')} with {count_text(threads, 'thread')}" + " each" * (
            len(node.pinned) > 1
        )
        kind = facts[min(node.pinned)].processor
        alike.setdefault(f"{ranks} on {count_text(node.cores, 'core')} ({kind})", []).append(node)
    return [f"{group[0].host}{f' and {len(group) - 1} more' * (len(group) > 1)}: {t}" for t, group in alike.items()]


def _pinning(node: Node) -> str:
    if node.is_unpinned:
        return "ranks may run on any core" if len(node.pinned) > 1 else "the rank may run on any core"
    if len(node.pinned) == 1:
        return f"the rank is bound to {count_text(node.pinned_cores, 'core')}"
    return "each rank has its own cores"


def _busy(nodes: Sequence[Node], facts: Sequence[RankFacts], threads: int) -> Iterator[Finding]:
    """Report nodes on which other programs leave too few cores to the ranks."""
    found = []
    for node in nodes:
        load = max(facts[rank].load for rank in node.pinned)
        if load >= 1 and load + len(node.pinned) * threads > node.cores:
            found.append(f"{node.host} ({load:.1f} of {count_text(node.cores, 'core')})")
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        busy = f"other programs kept cores busy during the last minute, on {found[0]}{more}"
        yield Finding("load", WARNING, busy, "wait until they end: they slow training, and the speeds below")


def _memory(nodes: Sequence[Node], facts: Sequence[RankFacts]) -> Finding:
    least = _least(f.memory for f in facts)
    if least is None:
        return Finding("memory", GOOD, "unknown")
    where = next(n.host for n in nodes if any(facts[rank].memory == least for rank in n.pinned))
    if least < LITTLE_MEMORY:
        return Finding(
            "memory",
            WARNING,
            f"{where} has {size(least)} free",
            "end the programs that use it, or request more for the job",
        )
    return Finding("memory", GOOD, f"{size(least)} free" + f" on {where}, the least" * (len(nodes) > 1))


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def node_facts(nodes: Sequence[Node], facts: Sequence[RankFacts]) -> list[dict[str, Any]]:
    """Return what is known of each node, for programs."""
    return [
        {
            "host": node.host,
            "processor": facts[min(node.pinned)].processor,
            "cores": node.cores,
            "pinned": {str(rank): sorted(cores) for rank, cores in node.pinned.items()},
            "memory_free": _least(facts[rank].memory for rank in node.pinned),
            "shared_memory_free": _least(facts[rank].shared for rank in node.pinned),
            "load": max(facts[rank].load for rank in node.pinned),
        }
        for node in nodes
    ]

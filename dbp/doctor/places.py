"""Where ranks run: nodes, cores and pinning, memory, and what else runs there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dbp.doctor.findings import GOOD, WARNING, Finding
from dbp.doctor.software import Facts
from dbp.parallel import Node, complaints, hints
from dbp.parallel.ranks.placement import counted
from dbp.text import size

MOST = 8  # kinds of nodes that are told of
LITTLE = 1e9  # bytes of memory that are not enough for models of some size


def place_findings(nodes: Sequence[Node], facts: Sequence[Facts], threads: int) -> Iterator[Finding]:
    """A line for nodes that are alike, then what could be better."""
    rows = _alike(nodes, facts, threads)
    yield from (Finding("node", GOOD, row) for row in rows[:MOST])
    if len(rows) > MOST:
        yield Finding("node", GOOD, f"and {len(rows) - MOST} more kinds")
    slow, better = complaints(nodes, threads), hints(nodes, threads)
    yield from (Finding.of("pinning", WARNING, text) for text in (*slow, *better))
    if not slow + better:
        yield Finding("pinning", GOOD, _pinning(nodes[0]))
    yield from _busy(nodes, facts, threads)
    yield _memory(nodes, facts)


def _alike(nodes: Sequence[Node], facts: Sequence[Facts], threads: int) -> list[str]:
    """A line for all nodes that are alike, named after the first."""
    alike: dict[str, list[Node]] = {}
    for node in nodes:
        ranks = f"{counted(len(node.pinned), 'rank')} with {counted(threads, 'thread')}" + " each" * (
            len(node.pinned) > 1
        )
        kind = facts[min(node.pinned)].processor
        alike.setdefault(f"{ranks} on {counted(node.cores, 'core')} ({kind})", []).append(node)
    return [f"{group[0].host}{f' and {len(group) - 1} more' * (len(group) > 1)}: {t}" for t, group in alike.items()]


def _pinning(node: Node) -> str:
    if node.free:
        return "ranks may run on any core" if len(node.pinned) > 1 else "the rank may run on any core"
    if len(node.pinned) == 1:
        return f"the rank is kept to {counted(node.reached, 'core')}"
    return "each rank has cores of its own"


def _busy(nodes: Sequence[Node], facts: Sequence[Facts], threads: int) -> Iterator[Finding]:
    """Nodes on which others leave too few cores to the ranks."""
    found = []
    for node in nodes:
        load = max(facts[rank].load for rank in node.pinned)
        if load >= 1 and load + len(node.pinned) * threads > node.cores:
            found.append(f"{node.host} ({load:.1f} of {counted(node.cores, 'core')})")
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        busy = f"other programs kept cores busy during the last minute, on {found[0]}{more}"
        yield Finding("load", WARNING, busy, "wait for their end: speeds below say little, and training would be slow")


def _memory(nodes: Sequence[Node], facts: Sequence[Facts]) -> Finding:
    least = _least(f.memory for f in facts)
    if least is None:
        return Finding("memory", GOOD, "not known here")
    where = next(n.host for n in nodes if any(facts[rank].memory == least for rank in n.pinned))
    if least < LITTLE:
        return Finding(
            "memory", WARNING, f"{where} has {size(least)} free", "end what takes it, or ask the job for more"
        )
    return Finding("memory", GOOD, f"{size(least)} free" + f" on {where}, the least" * (len(nodes) > 1))


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def node_facts(nodes: Sequence[Node], facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """For programs."""
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

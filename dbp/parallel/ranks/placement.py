"""The nodes of a run: their cores, how ranks are pinned to them, and warnings about bad placements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dbp.parallel.machine.cores import CpuBinding, format_cpu_list, limit_cores, parse_cpu_list
from dbp.parallel.ranks.comm import Communicator
from dbp.text import count_text

Cores = frozenset[int]


@dataclass(frozen=True)
class Node:
    """A machine, and the ranks on it.

    Args:
        host: its name.
        pinned: for each of its ranks, the cores that the rank is pinned to.
        allowed: the cores that its ranks could use if they were not pinned.
        limit: processor time that its ranks may use together, in processors; None without a limit.
    """

    host: str
    pinned: Mapping[int, Cores]
    allowed: Cores
    limit: float | None = None

    @property
    def cores(self) -> int:
        """Return how many cores its ranks could use if they were not pinned."""
        return limit_cores(self.limit, len(self.allowed))

    @property
    def pinned_cores(self) -> int:
        """Return how many cores its ranks can use as they are pinned."""
        return limit_cores(self.limit, len(Cores().union(*self.pinned.values())))

    @property
    def are_disjoint(self) -> bool:
        """Return True if no two ranks are pinned to the same core."""
        return sum(map(len, self.pinned.values())) == len(Cores().union(*self.pinned.values()))

    @property
    def is_unpinned(self) -> bool:
        """Return True if every rank may run on all allowed cores."""
        return all(cores == self.allowed for cores in self.pinned.values())

    def overloaded(self, threads: int) -> tuple[list[int], Cores] | None:
        """Return the first ranks pinned to fewer cores than their threads need, and these cores; None if none are."""
        sets = sorted(set(self.pinned.values()), key=lambda cores: (len(cores), sorted(cores)))
        for cores in sets:
            ranks = [rank for rank, own in self.pinned.items() if own <= cores]
            if len(ranks) * threads > len(cores):
                return ranks, cores
            if self.are_disjoint:  # then the smallest set decides; a large job has many sets
                break
        return None


def nodes_of(comm: Communicator) -> list[Node]:
    """Return the nodes of all ranks, in the order of their first ranks; collective."""
    bindings: dict[tuple[str, str], dict[int, CpuBinding]] = {}
    for rank, binding in enumerate(comm.gather(CpuBinding.current())):
        bindings.setdefault((binding.host, binding.boot), {})[rank] = binding
    return [_node(host, ranks) for (host, _), ranks in bindings.items()]


def _node(host: str, ranks: Mapping[int, CpuBinding]) -> Node:
    allowed = Cores().union(*(parse_cpu_list(text) for text in {binding.allowed for binding in ranks.values()}))
    limits = [binding.limit for binding in ranks.values() if binding.limit is not None]
    pinned = {rank: parse_cpu_list(binding.pinned) for rank, binding in ranks.items()}
    return Node(host, pinned, allowed, min(limits, default=None))


def threads_per_rank(nodes: Iterable[Node]) -> int:
    """Return the largest number of threads per rank with a core for each thread, the same for all nodes."""
    return max(1, min(node.pinned_cores // len(node.pinned) for node in nodes))


# --- warnings ---------------------------------------------------------------------------------------


def ranks_text(ranks: Iterable[int]) -> str:
    """Return ranks as text, such as "rank 0" or "ranks 0-3"."""
    text = format_cpu_list(ranks)
    return f"rank {text}" if text.isdigit() else f"ranks {text}"


def _cores_text(cores: Cores) -> str:
    text = format_cpu_list(cores)
    return f"core {text}" if text.isdigit() else f"cores {text}"


def _oversubscribed(node: Node, threads: int) -> str | None:
    ranks = len(node.pinned)
    if ranks * threads <= node.cores:
        return None
    allowed = len(node.allowed)
    limited = "" if node.cores == allowed else f" (a limit of {node.limit:g} on {count_text(allowed, 'core')})"
    remedy = "start fewer ranks there" if threads == 1 else "start fewer ranks there, or start again with fewer threads"
    return (
        f"{node.host} has {count_text(node.cores, 'core')}{limited} for {count_text(ranks, 'rank')} with "
        f"{count_text(threads, 'thread')} each, which wait for each other; {remedy}"
    )


def _crowded(node: Node, threads: int) -> str | None:
    overloaded = node.overloaded(threads)
    if overloaded is None or _oversubscribed(node, threads):
        return None
    ranks, cores = overloaded
    each, needed = " each" * (len(ranks) > 1), len(ranks) * threads
    return (
        f"{ranks_text(ranks)} on {node.host} {'is' if len(ranks) == 1 else 'are'} pinned to {_cores_text(cores)}, but "
        f"need{'s' * (len(ranks) == 1)} {needed} with {count_text(threads, 'thread')}{each}, and the node "
        f"has {node.cores}; start with dbp run, or with --bind-to none or --map-by slot:PE={threads} (mpirun), or "
        f"--cpus-per-task={threads} (srun)"
    )


def _first(nodes: Iterable[Node], check: Callable[[Node], str | None]) -> list[str]:
    """Return the message of the first node that fails a check, with the number of others that do; [] if none does."""
    lines = [line for node in nodes if (line := check(node)) is not None]
    more = f" (and likewise on {count_text(len(lines) - 1, 'more node')})" if len(lines) > 1 else ""
    return [lines[0] + more] if lines else []


def placement_warnings(nodes: Iterable[Node], threads: int) -> list[str]:
    """Return a warning for each kind of placement that slows ranks down, with its remedy."""
    nodes = list(nodes)
    return [
        *_first(nodes, lambda node: _oversubscribed(node, threads)),
        *_first(nodes, lambda node: _crowded(node, threads)),
    ]


def placement_hints(nodes: Iterable[Node], threads: int) -> list[str]:
    """Return a hint for each kind of placement that could be better, though it need not slow ranks down."""
    nodes = [node for node in nodes if not placement_warnings([node], threads)]
    return [*_first(nodes, lambda node: _share_cores(node, threads)), *_first(nodes, _unused_cores)]


def _share_cores(node: Node, threads: int) -> str | None:
    if len(node.pinned) == 1 or node.are_disjoint:
        return None
    return (
        f"the ranks on {node.host} may run on the same cores, and the system moves them between cores; pin each rank "
        f"to cores of its own with dbp run, or with --map-by slot:PE={threads} --bind-to core (Open MPI), "
        f"--bind-to core (MPICH) or --cpus-per-task={threads} --cpu-bind=cores (srun)"
    )


def _unused_cores(node: Node) -> str | None:
    ranks = len(node.pinned)
    if node.cores // ranks <= max(1, node.pinned_cores // ranks):
        return None
    return (
        f"the ranks on {node.host} are pinned to {node.pinned_cores} of its {node.cores} cores: start more ranks, or "
        f"pin them to more cores, such as with --map-by slot:PE={node.cores // ranks} (Open MPI), if they are to have "
        "more threads"
    )

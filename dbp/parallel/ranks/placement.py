"""The nodes that the ranks of a run share: their cores, how ranks are pinned to them, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dbp.parallel.machine.cores import Place, numbers, numbers_text, within
from dbp.parallel.ranks.comm import Communicator

Cores = frozenset[int]


@dataclass(frozen=True)
class Node:
    """A machine, and the ranks on it.

    Args:
        host: its name.
        pinned: the cores that each of its ranks may use as it was started.
        allowed: the cores that they could use if they were not pinned.
        limit: of processor time, in processors, for all of them together.
    """

    host: str
    pinned: Mapping[int, Cores]
    allowed: Cores
    limit: float | None = None

    @property
    def cores(self) -> int:
        """How many there are for the ranks if they are started well."""
        return within(self.limit, len(self.allowed))

    @property
    def reached(self) -> int:
        """How many of them the ranks can use as they are pinned."""
        return within(self.limit, len(Cores().union(*self.pinned.values())))

    @property
    def apart(self) -> bool:
        """Whether each rank has cores of its own."""
        return sum(map(len, self.pinned.values())) == len(Cores().union(*self.pinned.values()))

    @property
    def free(self) -> bool:
        """Whether every rank may run anywhere."""
        return all(cores == self.allowed for cores in self.pinned.values())

    def crowd(self, threads: int) -> tuple[list[int], Cores] | None:
        """The first ranks that are pinned to fewer cores than their threads need, and those cores."""
        sets = sorted(set(self.pinned.values()), key=lambda cores: (len(cores), sorted(cores)))
        for cores in sets:
            ranks = [rank for rank, own in self.pinned.items() if own <= cores]
            if len(ranks) * threads > len(cores):
                return ranks, cores
            if self.apart:  # then the smallest set tells enough; a large job has many
                break
        return None


def nodes_of(comm: Communicator) -> list[Node]:
    """The nodes of all ranks, in the order of their first ranks; collective."""
    places: dict[tuple[str, str], dict[int, Place]] = {}
    for rank, place in enumerate(comm.gather(Place.here())):
        places.setdefault((place.host, place.boot), {})[rank] = place
    return [_node(host, ranks) for (host, _), ranks in places.items()]


def _node(host: str, ranks: Mapping[int, Place]) -> Node:
    allowed = Cores().union(*(numbers(text) for text in {place.allowed for place in ranks.values()}))
    limits = [place.limit for place in ranks.values() if place.limit is not None]
    pinned = {rank: numbers(place.pinned) for rank, place in ranks.items()}
    return Node(host, pinned, allowed, min(limits, default=None))


def threads_for(nodes: Iterable[Node]) -> int:
    """How many threads a rank may have such that every one of them finds a core, the same on all nodes."""
    return max(1, min(node.reached // len(node.pinned) for node in nodes))


# --- what is wrong ----------------------------------------------------------------------------------


def ranks_text(ranks: Iterable[int]) -> str:
    """Rank 0, or ranks 0-3."""
    text = numbers_text(ranks)
    return f"rank {text}" if text.isdigit() else f"ranks {text}"


def _cores_text(cores: Cores) -> str:
    text = numbers_text(cores)
    return f"core {text}" if text.isdigit() else f"cores {text}"


def counted(number: int, thing: str) -> str:
    """1 core, 2 cores."""
    return f"{number} {thing}{'s' * (number != 1)}"


def _oversubscribed(node: Node, threads: int) -> str | None:
    ranks = len(node.pinned)
    if ranks * threads <= node.cores:
        return None
    whole = len(node.allowed)
    limited = "" if node.cores == whole else f" (a limit of {node.limit:g} on {counted(whole, 'core')})"
    remedy = "start fewer ranks there" if threads == 1 else "start fewer ranks there, or anew with fewer threads"
    return (
        f"{node.host} has {counted(node.cores, 'core')}{limited} for {counted(ranks, 'rank')} with "
        f"{counted(threads, 'thread')} each, which wait for each other; {remedy}"
    )


def _crowded(node: Node, threads: int) -> str | None:
    crowd = node.crowd(threads)
    if crowd is None or _oversubscribed(node, threads):
        return None
    ranks, cores = crowd
    each = " each" * (len(ranks) > 1)
    return (
        f"{ranks_text(ranks)} on {node.host} {'is' if len(ranks) == 1 else 'are'} pinned to {_cores_text(cores)}, but "
        f"need{'s' * (len(ranks) == 1)} {len(ranks) * threads} with {counted(threads, 'thread')}{each}, and the node "
        f"has {node.cores}; start with dbp run, or with --bind-to none or --map-by slot:PE={threads} (mpirun), or "
        f"--cpus-per-task={threads} (srun)"
    )


def _first(nodes: Iterable[Node], complaint: Callable[[Node], str | None]) -> list[str]:
    """What is wrong with the first node that it is wrong with, and with how many more."""
    lines = [line for node in nodes if (line := complaint(node)) is not None]
    more = f" (and likewise on {counted(len(lines) - 1, 'more node')})" if len(lines) > 1 else ""
    return [lines[0] + more] if lines else []


def complaints(nodes: Iterable[Node], threads: int) -> list[str]:
    """What slows ranks down on their nodes, each kind told once, with its remedy; nothing if all is well."""
    nodes = list(nodes)
    return [
        *_first(nodes, lambda node: _oversubscribed(node, threads)),
        *_first(nodes, lambda node: _crowded(node, threads)),
    ]


def hints(nodes: Iterable[Node], threads: int) -> list[str]:
    """What could be better about the ranks' places, though it need not slow them down."""
    nodes = [node for node in nodes if not complaints([node], threads)]
    return [*_first(nodes, lambda node: _together(node, threads)), *_first(nodes, _unreached)]


def _together(node: Node, threads: int) -> str | None:
    if len(node.pinned) == 1 or node.apart:
        return None
    return (
        f"the ranks on {node.host} may run on the same cores, so that the system moves them about; pin each to its own "
        f"with dbp run, or with --map-by slot:PE={threads} --bind-to core (Open MPI), --bind-to core (MPICH) or "
        f"--cpus-per-task={threads} --cpu-bind=cores (srun)"
    )


def _unreached(node: Node) -> str | None:
    ranks = len(node.pinned)
    if node.cores // ranks <= max(1, node.reached // ranks):
        return None
    return (
        f"the ranks on {node.host} are pinned to {node.reached} of its {node.cores} cores: start more of them, or pin "
        f"them to more cores, such as with --map-by slot:PE={node.cores // ranks} (Open MPI), if they are to have "
        "more threads"
    )

"""Examine what ranks do together: matrix products, shared memory, sums of gradients, links and clocks of nodes."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from dbp.doctor import links, trials
from dbp.doctor.findings import BAD, GOOD, WARNING, Finding
from dbp.doctor.software import RankFacts
from dbp.parallel import Communicator, Node
from dbp.parallel.machine.shared_memory import SHARED_MEMORY
from dbp.text import count_text, size

OTHER_LIBRARY = "use another MPI library, or another version of it"
LITTLE_MEMORY = 1e9  # bytes of shared memory, too few for larger models
SLOW_LINK = 50e6  # bytes per second, too few to train any but small models over nodes
ODD_LINK = 2.0  # a link that is so many times slower than the median has a fault
CLOCK_TOLERANCE = 1.0  # seconds by which clocks may differ


def collective_findings(
    comm: Communicator, nodes: Sequence[Node], facts: Sequence[RankFacts], threads: int, results: dict[str, Any]
) -> Iterator[Finding]:
    """Run all trials; collective. Measurements go to `results`, in seconds, bytes per second and GFLOP/s."""
    with trials.in_time(comm, "a matrix product on each rank"):
        alone, everyone = trials.products(comm)
    results["gflops"] = {"alone": alone, "together": everyone}
    speed = f"{alone:.0f} GFLOP/s per rank of {count_text(threads, 'thread')}"
    if comm.size == 1:
        yield Finding("matrix product", GOOD, speed)
        return
    yield Finding("matrix product", GOOD, f"{speed}, {min(everyone):.0f} to {max(everyone):.0f} all at once")
    with trials.in_time(comm, "a trial of shared memory"):
        memory = trials.shared_memory(comm)
    yield _shared(nodes, facts, memory)
    with trials.in_time(comm, "a sum over the ranks"):
        waits = trials.wait_times(comm)
    results |= {"barrier": waits.barrier, "sum": waits.sum, "sum_by_library": waits.library}
    yield _sum(comm, waits)
    yield Finding("barrier", GOOD, time_text(waits.barrier))
    yield Finding("weights", GOOD, waits.copies)
    if comm.nodes.count > 1:
        yield from _between_nodes(comm, results)


def _shared(nodes: Sequence[Node], facts: Sequence[RankFacts], memory: trials.MemoryTrial) -> Finding:
    """Report whether ranks can share memory, and how much of it."""
    if memory.worked is False:
        return Finding("shared memory", BAD, memory.text, OTHER_LIBRARY)
    remedy = "give a container more of it, such as with docker run --shm-size=8g"
    if memory.worked is None:
        return Finding("shared memory", WARNING, f"ranks copy weights and gradients, as it {memory.text}", remedy)
    known = [(free, n.host) for n in nodes if (free := facts[min(n.pinned)].shared) is not None and len(n.pinned) > 1]
    if not known:
        return Finding("shared memory", GOOD, memory.text)
    free, host = min(known)
    if free < LITTLE_MEMORY:
        found = f"{host} has {size(free)} of {SHARED_MEMORY} free: ranks copy weights and gradients that do not fit"
        return Finding("shared memory", WARNING, found, remedy)
    return Finding("shared memory", GOOD, f"{memory.text}; {size(free)} of {SHARED_MEMORY} free")


def _sum(comm: Communicator, waits: trials.WaitTimes) -> Finding:
    if not waits.right:
        return Finding("sum", BAD, "the sum over the ranks is wrong", OTHER_LIBRARY)
    some = f" of {waits.summed} ranks" * (waits.summed < comm.size)
    times = f"{time_text(waits.sum)} (MPI_Allreduce: {time_text(waits.library)})"
    return Finding("sum", GOOD, f"{4e-6 * trials.LENGTH:.0f} MB{some} in {times}")


def _between_nodes(comm: Communicator, results: dict[str, Any]) -> Iterator[Finding]:
    names = comm.gather(socket.gethostname())
    hosts = [names[ranks.start] for ranks in comm.nodes.runs]
    with trials.in_time(comm, "messages between nodes"):
        speeds, clocks = links.link_speeds(comm), links.clock_offsets(comm)
    results |= {"links": dict(zip(hosts, speeds, strict=True))}
    results |= {"clocks": {hosts[c.node]: {"ahead": c.ahead, "error": c.error} for c in clocks}}
    yield _links(hosts, speeds, max(clock.error for clock in clocks))
    yield _clocks(hosts, clocks)


def _links(hosts: Sequence[str], speeds: Sequence[float], latency: float) -> Finding:
    slowest = min(range(len(speeds)), key=speeds.__getitem__)
    pair = f"{hosts[slowest - 1]} to {hosts[slowest]}"
    found = f"{rate_text(speeds[slowest])} from {pair}, all nodes at once"
    typical = statistics.median(speeds)
    if len(speeds) > 2:
        found = f"{rate_text(typical)}; slowest {found}"
    found += f"; a message takes {time_text(latency)}"
    if speeds[slowest] < SLOW_LINK:
        remedy = "make MPI use the fast network: OMPI_MCA_btl_tcp_if_include, UCX_NET_DEVICES or a setting of the site"
        return Finding("link", WARNING, found, remedy)
    if typical > ODD_LINK * speeds[slowest]:
        return Finding("link", WARNING, found, f"check the network of {pair.replace(' to ', ' and ')}")
    return Finding("link", GOOD, found)


def _clocks(hosts: Sequence[str], clocks: Sequence[links.ClockOffset]) -> Finding:
    worst = max(clocks, key=lambda clock: abs(clock.ahead))
    way, off = ("ahead of" if worst.ahead > 0 else "behind"), abs(worst.ahead)
    found = f"{hosts[worst.node]} is {time_text(off)} {way} {hosts[0]} (give or take {time_text(worst.error)})"
    if off - worst.error > CLOCK_TOLERANCE:
        remedy = "set clocks by NTP or chrony, as times in logs and status.json are wrong, and files seem old"
        return Finding("clocks", WARNING, found, remedy)
    return Finding(
        "clocks", GOOD, found if off > worst.error else f"the same on all nodes, {found.partition('(')[2]}"[:-1]
    )


def rate_text(speed: float) -> str:
    """Return a number of bytes per second as text."""
    return f"{size(speed)}/s"


def time_text(seconds: float) -> str:
    """Return seconds as text, in microseconds, milliseconds or seconds."""
    if seconds < 1e-4:
        return f"{1e6 * seconds:.1f} us"
    return f"{1e3 * seconds:.2f} ms" if seconds < 1 else f"{seconds:.1f} s"

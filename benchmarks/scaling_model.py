"""A model of the time of a step on clusters, and what it predicts for large ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dbp.parallel.vectors.deal import BUCKET, GRAIN, NODE_GRAIN
from dbp.parallel.vectors.node_groups import groups_of, most_messages_at_once

CLUSTERS = (2, 8, 64, 256, 1024, 8192)  # hosts
RANKS = (1, 64)  # of a host
LINKS = {"1 Gbit/s": (1e9, 100e-6), "10 Gbit/s": (1e10, 30e-6), "100 Gbit/s": (1e11, 3e-6)}  # and latencies in s
# Each host tells all others a few scalars in a step, and MPI_Iallgatherv sends them one by one: example weight, loss,
# metrics and requests to stop.
SCALAR_BYTES, SCALAR_SECONDS = 64, 1e-6  # of one host's: their bytes, and the work of sending and receiving them
PUBLISHED = "CosmoFlow (Mathuriya et al. 2018): 0.77 on 8192 nodes, in TensorFlow with Cray's plugin for allreduce"


@dataclass(frozen=True)
class Model:
    """A model of the time of a step.

    Args:
        parameters: of the network.
        compute: seconds of forward, loss and backward on a core of its own.
        first: seconds until the first bucket is complete.
        update: seconds of the optimizer on all parameters.
        ranks: of a host, which divide the update and share its link.
        message: seconds of a rank's work for each message that it sends or receives.
    """

    parameters: int
    compute: float
    first: float
    update: float
    ranks: int = 1
    message: float = 0.0

    def bytes(self, hosts: int) -> float:
        """Return the bytes of the gradient that each host sends, and receives."""
        return 2 * (hosts - 1) / hosts * 4 * self.parameters

    def messages(self, hosts: int) -> float:
        """Return the most messages that a rank sends and receives.

        A bucket is cut into a piece for each host, of at least NODE_GRAIN elements, and such a piece into one for each
        rank of a host, of at least GRAIN. A host sends its part of a piece to the host that finishes it and receives
        the sum; that host does the same with all others. In groups, each piece takes two stages there and two back.
        """
        homes = min(BUCKET // NODE_GRAIN, hosts)
        pieces = -(-self.parameters // BUCKET) * homes * min(self.ranks, BUCKET // homes // GRAIN) / self.ranks
        groups = groups_of(hosts, pieces)
        return most_messages_at_once(hosts, pieces) if groups is None else groups.most_messages(pieces)

    def causes(self, hosts: int, bandwidth: float, latency: float, slower: float = 1.0) -> dict[str, float]:
        """Return what a step waits for, in seconds: for the largest of them, and then for the scalars.

        Args:
            hosts: how many, at least two.
            bandwidth: bytes per second, each way.
            latency: seconds of a small message.
            slower: how many times as long computing takes, where ranks share cores.
        """
        update, first = slower * self.update / self.ranks, slower * self.first
        last = update * min(1, BUCKET / self.parameters)
        return {
            "computing": slower * self.compute + update,
            "bytes": first + self.bytes(hosts) / bandwidth + last,
            "messages": first + self.messages(hosts) * self.message + last,
            "scalars": 4 * latency + hosts * (SCALAR_BYTES / bandwidth + SCALAR_SECONDS),
        }

    def step(self, hosts: int, bandwidth: float, latency: float, slower: float = 1.0) -> float:
        """Return the seconds of a step; see causes()."""
        if hosts == 1:
            return (self.compute + self.update / self.ranks) * slower
        causes = self.causes(hosts, bandwidth, latency, slower)
        return max(causes["computing"], causes["bytes"], causes["messages"]) + causes["scalars"]

    def limit(self, hosts: int, bandwidth: float, latency: float) -> str:
        """Return the cause that costs a step most beside its computing."""
        causes = self.causes(hosts, bandwidth, latency)
        computing = causes["computing"]
        beside = {name: s if name == "scalars" else s - computing for name, s in causes.items() if s != computing}
        return max(beside, key=lambda name: beside[name])


def clusters_table(models: list[Model]) -> str:
    """Return a table of the efficiency predicted for clusters, the fraction of time spent computing, and its limit."""
    lines = [_wide_line("efficiency, model", [f"{hosts} hosts" for hosts in CLUSTERS])]
    for model in models:
        alone = model.step(1, 1, 0)
        for name, (bits, latency) in LINKS.items():
            cells = []
            for hosts in CLUSTERS:
                efficiency = alone / model.step(hosts, bits / 8, latency)
                cells.append(f"{efficiency:.2f} {model.limit(hosts, bits / 8, latency)}")
            lines.append(_wide_line(f"{name}, {model.ranks}", cells))
    lines += [
        "behind an efficiency is what costs most beside computing; behind the speed of a host's link the number of its",
        "ranks, each of which has the examples of the case",
        f"published: {PUBLISHED}",
    ]
    return "\n".join(lines)


def _wide_line(title: str, cells: Iterable[str]) -> str:
    """Return a line of the table, whose cells are wide enough for a number and a word."""
    return title.ljust(20) + "".join(f"{cell:>15s}" for cell in cells)

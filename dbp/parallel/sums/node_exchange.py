"""What nodes exchange to sum up a bucket of their vectors: each sends its parts straight to those that finish them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import PARTS, SUMS, Messages
from dbp.parallel.ranks.wire import Action, Wire, do_nothing
from dbp.parallel.sums.summation_tree import Adder, Additions, Branch, additions
from dbp.parallel.vectors.deal import Deal
from dbp.types import Array


@dataclass
class Step:
    """A step of the work of a rank on a bucket.

    Args:
        received: messages that must have arrived.
        work: what is done then.
        sent: messages with the results.
        what: they hold, in a timeline.
    """

    received: Messages
    work: Sequence[Callable[[], object]]
    sent: Messages
    what: str


@dataclass
class Bucket:
    """The work of a rank on a bucket.

    Args:
        adders: sum over the ranks of this node, for each node that finishes a part.
        steps: the first needs what all ranks of this node have written, each other one what the one before has done.
        sums: messages with the finished sums of other nodes, after the last step.
        of_total: messages to and from the memory of the total.
    """

    adders: list[Adder]
    steps: list[Step]
    sums: Messages
    of_total: list[Any] = field(default_factory=list)

    @property
    def received(self) -> list[Any]:
        """Return all messages that are received, in the order in which they are sent."""
        return [message for messages in self.all_received for message in messages.all]

    @property
    def sent(self) -> list[Any]:
        """Return all messages that are sent."""
        return [message for step in self.steps for message in step.sent.all]

    @property
    def all_received(self) -> list[Messages]:
        """Return what each step waits for, and what is waited for in the end."""
        return [*(step.received for step in self.steps), self.sums]


@dataclass(eq=False)
class NodeExchange:
    """The exchange between nodes at once.

    Args:
        comm: the ranks.
        deal: which rank adds up and finishes which part.
        parts: the vectors to be added up on this node, in memory that its ranks share.
        branches: for each node, which branches of the tree its parts are.
        total: memory for the sum, shared by the ranks of this node.
        to_all_nodes: True if a finished sum is sent to all nodes; else it stays on the rank that finishes it.
        wire: the form in which numbers travel.
    """

    comm: Communicator
    deal: Deal
    parts: Sequence[Array]
    branches: Sequence[list[Branch]]
    total: Array
    to_all_nodes: bool
    wire: Wire

    def __post_init__(self) -> None:
        self._spare: dict[int, Array] = {}
        self._plans = [additions(of_node, to_root=False) for of_node in self.branches]
        remaining = [plan.branches for plan in self._plans]
        if self.wire.one_sum_per_node:  # a node without shards takes part with zeros, as it may have a residual to send
            self._plans = [additions(of_node or [(0, 0)]) for of_node in self.branches]
            self.parts = self.parts or [np.zeros(self.deal.size, self.total.dtype)]
            remaining = [[(0, node)] for node in range(len(self.branches))]
        self.wire.start()
        self._prepare(remaining)

    def _prepare(self, remaining: Sequence[Sequence[Branch]]) -> None:
        """Prepare the sum over nodes.

        Args:
            remaining: for each node, which branches of the tree its sums are.
        """
        self._plan_of_all = additions([branch for of_node in remaining for branch in of_node])
        self._sums = self._sums_of(range(len(self._plans)))

    def _sums_of(self, nodes: Iterable[int]) -> dict[int, list[Array]]:
        """Return for each of some nodes the arrays for the sums over its ranks; those of others are received into."""
        here = self.deal.nodes.mine
        return {node: self._remaining(self._plans[node], self.parts if node == here else ()) for node in nodes}

    @property
    def peers(self) -> list[int]:
        """Return the nodes that this one exchanges messages with."""
        return self.deal.others

    def bucket(self, bucket: slice) -> Bucket:
        """Return the work of this rank on a bucket."""
        deal, wire, here = self.deal, self.wire, self.deal.nodes.mine
        homes = set(deal.homes(bucket))
        adders = self._adders(bucket, [node for node in [*deal.others, here] if node in homes])
        parts_out, parts_in, sums_out, sums_in = (Messages(self.comm, tag) for tag in (PARTS, PARTS, SUMS, SUMS))
        for node in deal.others:
            for array in self._sums[here]:
                parts_out.send(deal.exchanged(bucket, node, node), partial(wire.outgoing, array))
            for array in self._sums[node]:
                parts_in.receive(deal.exchanged(bucket, here, node), partial(wire.incoming, array))
        forms, actions = self._to_all(bucket)
        if self.to_all_nodes:
            sent, received = deal.broadcast_messages([bucket])
            sums_out.send(sent, lambda part: (forms[part.start], do_nothing))
            sums_in.receive(received, partial(wire.incoming, self.total))
        finish = self._finish(deal.finished(bucket), [array for of_node in self._sums.values() for array in of_node])
        steps = [
            Step(Messages(self.comm, PARTS), [adder.add for adder in adders], parts_out, "parts"),
            Step(parts_in, [finish, *actions], sums_out, "sum"),
        ]
        return Bucket(adders, steps, sums_in, [*sums_in.all, *sums_out.all])

    def _to_all(self, bucket: slice) -> tuple[dict[int, Array], list[Action]]:
        """Return the messages with the sum that this rank finishes, by their first element, and what prepares them."""
        wire, total, mine = self.wire, self.total, self.deal.finished(bucket)
        if not self.to_all_nodes:
            return {}, [wire.local_sum(total, mine)]
        common = self.deal.common(bucket, self.deal.nodes.mine)
        forms = {part.start: wire.outgoing_sum(total, part) for part in common if mine.start <= part.start < mine.stop}
        return {start: array for start, (array, _) in forms.items()}, [action for _, action in forms.values()]

    def _remaining(self, plan: Additions, parts: Sequence[Array]) -> list[Array]:
        """Return arrays for the sums that remain of parts, some of them these parts; without parts, new ones.

        They are as long as the vector, but only the pages in use take memory.
        """
        size, dtype = self.deal.size, self.total.dtype
        return [parts[slot] if slot < len(parts) else np.empty(size, dtype) for slot in plan.remaining]

    def _adders(self, bucket: slice, homes: Sequence[int]) -> list[Adder]:
        """Return the sums over this node's ranks, of this rank's parts of what each of some nodes finishes."""
        here = self.deal.nodes.mine
        pieces = [self.deal.added(bucket, home, self.comm.rank) for home in homes]
        return [self._adder(self._plans[here], self.parts, self._sums[here], piece) for piece in pieces]

    def _adder(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], piece: slice) -> Adder:
        return Adder(plan, [part[piece] for part in parts], [array[piece] for array in sums], self._spare)

    def _finish(self, piece: slice, sums: Sequence[Array]) -> Action:
        """Return the action that sums up a piece over all nodes."""
        adder, total = self._adder(self._plan_of_all, sums, [self.total], piece), self.total[piece]
        is_elsewhere = not np.shares_memory(adder.sums[0], total)  # if there is only one part

        def finish() -> None:
            (found,) = adder.add()
            if is_elsewhere:
                total[:] = found

        return finish

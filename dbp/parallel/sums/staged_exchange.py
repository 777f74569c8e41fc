"""What many nodes exchange to sum up a bucket: in stages, within groups of nodes and between groups.

In each group one node collects the group's parts of what a node finishes, its home. So the home receives one message
from each group instead of one from each node, and the sum goes back the same way. A node thus exchanges messages with
the nodes of its group and with one node of each other group: about 4 times the root of the number of nodes in place of
twice that number, for as many bytes. Groups are summed along the tree, so the bits are those of the exchange at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from dbp.parallel.ranks.messages import COLLECTED, FINISHED, PARTS, SUMS, Messages
from dbp.parallel.sums.node_exchange import Bucket, NodeExchange, Step
from dbp.parallel.sums.summation_tree import Adder, Branch, additions
from dbp.parallel.vectors.node_groups import NodeGroups
from dbp.types import Array


@dataclass(eq=False)
class StagedExchange(NodeExchange):
    """The exchange between nodes in stages, for numbers that travel as they are.

    Args:
        groups: the groups of nodes.
    """

    groups: NodeGroups

    def _prepare(self, remaining: Sequence[Sequence[Branch]]) -> None:
        here, groups = self.deal.nodes.mine, self.groups.all
        self._group = self.groups.of(here)
        self._other_groups = [group for group in groups if here not in group]
        self._sums = self._sums_of(self._group)
        self._members = [array for node in self._group for array in self._sums[node]]
        of_groups = [[branch for node in group for branch in remaining[node]] for group in groups]
        plans = {group: additions(branches, to_root=False) for group, branches in zip(groups, of_groups, strict=True)}
        self._plan_of_group = plans[self._group]
        self._plan_of_all = additions([branch for plan in plans.values() for branch in plan.branches])
        self._collected = {
            group: self._remaining(plan, self._members if group == self._group else ()) for group, plan in plans.items()
        }

    @property
    def peers(self) -> list[int]:
        """Return the nodes that this one exchanges messages with: those of its group, and one of each other group."""
        here = self.deal.nodes.mine
        return [*self._after(here, self._group), *(self.groups.collector(group, here) for group in self._other_groups)]

    def bucket(self, bucket: slice) -> Bucket:
        """Return the work of this rank on a bucket."""
        here, homes = self.deal.nodes.mine, self.deal.homes(bucket)
        collected = [home for home in homes if self.groups.collector(self._group, home) == here]
        adders = self._adders(bucket, homes)
        steps = [self._add(bucket, homes, adders), self._collect(bucket, collected), self._finish_home(bucket)]
        sums = Messages(self.comm, SUMS)
        of_total = [*steps[-1].sent.all]
        if self.to_all_nodes:
            steps.append(self._pass_on(bucket, collected))
            for home in homes:
                if home not in collected:
                    self._receive(sums, bucket, home, self.groups.collector(self._group, home), [self.total])
            of_total += [*steps[-1].received.all, *steps[-1].sent.all, *sums.all]
        return Bucket(adders, steps, sums, of_total)

    def _add(self, bucket: slice, homes: Sequence[int], adders: Sequence[Adder]) -> Step:
        """Return the first step: to add up the parts of this node's ranks, and send them to those that collect them."""
        here, sent = self.deal.nodes.mine, Messages(self.comm, PARTS)
        for home in self._after(here, homes):
            collector = self.groups.collector(self._group, home)
            if collector != here:
                self._send(sent, bucket, home, collector, self._sums[here])
        return Step(Messages(self.comm, PARTS), [adder.add for adder in adders], sent, "parts")

    def _collect(self, bucket: slice, collected: Sequence[int]) -> Step:
        """Return the step that adds up the parts of this group, of what some nodes finish, and sends them there."""
        here, received, sent = self.deal.nodes.mine, Messages(self.comm, PARTS), Messages(self.comm, COLLECTED)
        for node in self._after(here, self._group):
            for home in self._after(node, collected):
                self._receive(received, bucket, home, node, self._sums[node])
        sums, work = self._collected[self._group], []
        for home in collected:
            piece = self.deal.added(bucket, home, self.comm.rank)
            work.append(self._adder(self._plan_of_group, self._members, sums, piece).add)
            if home != here:
                self._send(sent, bucket, home, home, sums)
        return Step(received, work, sent, "parts of a group")

    def _finish_home(self, bucket: slice) -> Step:
        """Return the step that finishes the part of this node, and sends it to a node of each other group."""
        here, received, sent = self.deal.nodes.mine, Messages(self.comm, COLLECTED), Messages(self.comm, FINISHED)
        for group in self._other_groups:
            collector = self.groups.collector(group, here)
            self._receive(received, bucket, here, collector, self._collected[group])
            if self.to_all_nodes:
                self._send(sent, bucket, here, collector, [self.total])
        finish = self._finish(
            self.deal.finished(bucket), [array for of_group in self._collected.values() for array in of_group]
        )
        return Step(received, [finish], sent, "sum")

    def _pass_on(self, bucket: slice, collected: Sequence[int]) -> Step:
        """Return the step that passes finished sums on to this group."""
        here, received, sent = self.deal.nodes.mine, Messages(self.comm, FINISHED), Messages(self.comm, SUMS)
        for home in collected:
            if home != here:
                self._receive(received, bucket, home, home, [self.total])
        for node in self._after(here, self._group):
            for home in collected:
                self._send(sent, bucket, home, node, [self.total])
        return Step(received, [], sent, "sum passed on")

    def _send(self, messages: Messages, bucket: slice, home: int, node: int, arrays: Iterable[Array]) -> None:
        """Prepare to send a node its piece of arrays, of the part that the home finishes."""
        for array in arrays:
            messages.send(self.deal.exchanged(bucket, home, node), partial(self.wire.outgoing, array))

    def _receive(self, messages: Messages, bucket: slice, home: int, node: int, arrays: Iterable[Array]) -> None:
        """Prepare to receive from a node its piece of arrays, of the part that the home finishes."""
        for array in arrays:
            messages.receive(self.deal.exchanged(bucket, home, node), partial(self.wire.incoming, array))

    @staticmethod
    def _after(node: int, nodes: Sequence[int]) -> list[int]:
        """Return nodes other than one, in the order in which it sends to them: beginning with the next."""
        return [other for other in nodes if other > node] + [other for other in nodes if other < node]

"""Allreduces over many nodes, at once and in stages, all of whose ranks take turns in this process."""

from collections import defaultdict, deque
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import UserError
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.wire import Wire
from dbp.parallel.shards import Shards
from dbp.parallel.sums.node_allreduce import NodeAllreduce
from dbp.parallel.sums.node_exchange import NodeExchange
from dbp.parallel.sums.staged_exchange import StagedExchange
from dbp.parallel.sums.summation_tree import TreeSum, branches_of
from dbp.parallel.vectors.deal import NODE_GRAIN, Deal
from dbp.parallel.vectors.node_groups import GROUP_SIZE, NodeGroups, groups_of, most_messages_at_once

SIZE, BUCKET = 5 * NODE_GRAIN + 77, 2 * NODE_GRAIN


class Channel:
    """The channel of a rank: messages arrive when their sender's and their receiver's are started, in that order.

    Args:
        rank: of the owner.
        network: the messages on their way, by sender, receiver and tag; of all ranks.
    """

    def __init__(self, rank, network):
        self._rank, self._network, self.sent = rank, network, 0

    def outgoing(self, array, rank, tag):
        """Prepare to send."""
        return SimpleNamespace(key=(self._rank, rank, tag), array=array, is_sent=True, done=True)

    def incoming(self, array, rank, tag):
        """Prepare to receive."""
        return SimpleNamespace(key=(rank, self._rank, tag), array=array, is_sent=False, done=True)

    def start(self, messages):
        """Start messages, and let those arrive that can."""
        for message in messages:
            assert message.done
            message.done = False
            self.sent += message.is_sent
            sends, receives = self._network[message.key]
            (sends if message.is_sent else receives).append(message)
            while sends and receives:
                source, target = sends.popleft(), receives.popleft()
                assert source.array.shape == target.array.shape
                target.array[...] = source.array
                source.done = target.done = True

    def done(self, messages):
        """Return True if all have arrived."""
        return all(message.done for message in messages)

    def discard(self, messages):
        """Check that nothing is on its way."""
        assert self.done(messages)


class Rank:
    """A rank of a node, with its allreduce."""

    def __init__(self, rank, nodes, shards, size, network, shared, groups, to_all_nodes):
        self.nodes, self.channel = Nodes(nodes, rank), Channel(rank, network)
        self.deal = Deal(size, self.nodes, BUCKET)
        spans = [[Shards(shards, r, sum(nodes)).of_rank(r) for r in run] for run in self.nodes.runs]
        self.branches = [[b for span in of_node for b in branches_of(span, True)] for of_node in spans]
        self.parts, self.total, self.progress = shared
        comm = SimpleNamespace(
            rank=rank,
            channel=self.channel,
            node=SimpleNamespace(memory_barrier=lambda: None),
            clock=SimpleNamespace(timeline=None),
            thread_level="single",
        )
        given_ = comm, self.deal, self.parts, self.branches, self.total, to_all_nodes, Wire()
        self.exchange = NodeExchange(*given_) if groups is None else StagedExchange(*given_, groups)
        self.allreduce = NodeAllreduce(comm, self.deal, self.exchange, self.progress, Wire())


def numbers(shards, size, seed):
    """Return numbers of many magnitudes for each shard, the sum of which depends on the order."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((shards, size)) * 10.0 ** rng.integers(-3, 3, (shards, size))).astype(np.float32)


def tree_total(arrays):
    """Return the sum of arrays along the tree."""
    tree = TreeSum()
    for number, array in enumerate(arrays):
        tree.push(0, number, array.copy())
    return tree.total()


def ranks_of(sizes, shards, size, groups, to_all_nodes):
    """Return the ranks of nodes of so many ranks."""
    nodes, network, ranks = tuple(sizes), defaultdict(lambda: (deque(), deque())), []
    for run in Nodes(nodes).runs:
        spans = [branches_of(Shards(shards, rank, sum(nodes)).of_rank(rank), True) for rank in run]
        parts = [np.full(size, np.nan, np.float32) for span in spans for _ in span]
        shared = parts, np.full(size, np.nan, np.float32), np.zeros(len(run), np.int64)
        ranks += [Rank(rank, nodes, shards, size, network, shared, groups, to_all_nodes) for rank in run]
    return ranks


def reduce_once(ranks, given_, backwards):
    """Let ranks write the parts of given numbers and sum them up."""
    for rank in ranks:
        rank.allreduce.start()
        for (level, index), part in zip(rank.branches[rank.nodes.mine], rank.parts, strict=True):
            part[:] = tree_total(given_[index << level : (index + 1) << level])
    for bucket in ranks[0].deal.buckets:  # as backward writes them
        for rank in ranks[:: -1 if backwards else 1]:
            rank.allreduce.on_written(bucket.start)
    waiting = ranks
    while waiting:
        waiting = [rank for rank in waiting if not rank.allreduce.advance()]
    assert all(rank.allreduce._have_arrived(len(rank.deal.buckets)) for rank in ranks)


def reduced(sizes, shards, groups, to_all_nodes=True, size=SIZE, rounds=2):
    """Check allreduces on nodes of so many ranks; return the ranks."""
    ranks = ranks_of(sizes, shards, size, groups, to_all_nodes)
    for seed in range(rounds):
        given_ = numbers(shards, size, seed)
        reduce_once(ranks, given_, backwards=seed == 0)
        expected = tree_total(given_)
        for rank in ranks:
            for part in [slice(None)] if to_all_nodes else rank.deal.updated(divided=True):
                assert rank.total[part].tobytes() == expected[part].tobytes()
    for rank in ranks:
        rank.allreduce.free()
    return ranks


@pytest.mark.parametrize("to_all_nodes", [True, False])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(
    ("sizes", "shards"),
    [([1] * 3, 3), ([1] * 4, 8), ([1] * 6, 5), ([1] * 9, 9), ([2, 1, 3, 1, 2], 12), ([2] * 5, 7), ([1] * 5, 1)],
    ids=lambda value: str(value),
)
def test_stages_sum_to_the_bits_of_the_tree(sizes, shards, size, to_all_nodes):
    reduced(sizes, shards, NodeGroups(len(sizes), size), to_all_nodes)
    reduced(sizes, shards, None, to_all_nodes)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=7), st.integers(1, 20), st.integers(1, 30_000))
def test_any_nodes_sum_to_the_bits_of_the_tree(sizes, shards, length):
    reduced(sizes, shards, NodeGroups(len(sizes), 2), size=length, rounds=1)


def test_on_many_nodes_stages_send_fewer_messages():
    nodes = 128
    groups = groups_of(nodes, 1)
    assert (groups.size, len(groups.all)) == (16, 8)
    at_once, in_stages = (reduced([1] * nodes, nodes, g, size=NODE_GRAIN, rounds=1) for g in (None, groups))
    most = [max(rank.channel.sent for rank in ranks) for ranks in (at_once, in_stages)]
    assert most == [nodes - 1, 15 + 7]  # the home's: to all others, and to its group and to one node of each other
    assert len(in_stages[0].exchange.peers) == 15 + 7
    assert 2 * most[0] <= most_messages_at_once(nodes, 1) <= 2 * most[0] + 2  # sent and received
    assert 2 * most[1] <= groups.most_messages(1) <= 2 * most[1] + 8


def test_many_nodes_form_groups_if_there_are_few_pieces(monkeypatch):
    """Check the choice; all nodes finish many pieces of a large vector, so they share its messages evenly as it is."""
    monkeypatch.delenv(GROUP_SIZE, raising=False)
    assert [groups_of(nodes, 16) is None for nodes in (2, 64, 128, 8192)] == [True, True, False, False]
    assert [groups_of(nodes, 240) is None for nodes in (128, 512, 1024, 8192)] == [True, True, False, False]
    assert [groups_of(nodes, 100_000) is None for nodes in (1024, 8192)] == [True, True]
    assert [groups_of(nodes, 16).size for nodes in (128, 1000, 8192)] == [16, 32, 128]


def test_groups_are_neighbors_in_which_one_collects_for_a_home(monkeypatch):
    monkeypatch.setenv(GROUP_SIZE, "2")
    groups = groups_of(5, 100_000)
    assert groups.all == [range(2), range(2, 4), range(4, 5)]
    assert [groups.of(node) for node in (0, 3, 4)] == groups.all
    assert [groups.collector(group, 3) for group in groups.all] == [1, 3, 4]
    assert groups_of(2, 1) is None
    monkeypatch.setenv(GROUP_SIZE, "two")
    with pytest.raises(UserError, match=f"^{GROUP_SIZE} must be a number of nodes, but is 'two'$"):
        groups_of(5, 1)

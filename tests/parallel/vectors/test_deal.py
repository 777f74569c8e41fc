"""Deals: one owner for each element, messages that fit, work shared out evenly."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.parallel.vectors.deal import BUCKET, NODE_GRAIN, Deal, Nodes, shares


@settings(max_examples=60)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 60_000), st.integers(3000, 20_000))
def test_a_deal_gives_every_element_one_owner_and_messages_fit(sizes, size, bucket):
    deals = [Deal(size, Nodes(tuple(sizes), rank), bucket) for rank in range(sum(sizes))]
    nodes = deals[0].nodes
    for divided in (False, True):
        counts = np.zeros((nodes.count, size), int)
        for deal in deals:
            for part in deal.updated(divided):
                counts[deal.nodes.mine, part] += 1
        assert ((counts.sum(axis=0) if divided else counts) == 1).all()
    for run in deals[0].buckets:
        finished = [n for n in range(nodes.count) if deals[0]._home(run, n).start < deals[0]._home(run, n).stop]
        assert deals[0].homes(run) == finished
    for run in deals[0].buckets:
        for one in deals:
            for node in one.others:
                for message in one.exchanged(run, node, node):
                    back = deals[message.rank].exchanged(run, node, one.nodes.mine)
                    back = [m for m in back if m.rank == one.nodes.rank]
                    assert [m.part for m in back] == [message.part]


def test_more_nodes_and_ranks_than_grains_of_a_bucket_have_the_same_share_of_all_buckets():
    nodes, ranks, grains = 8, 4, 2
    size = nodes * ranks * grains * NODE_GRAIN
    deals = [Deal(size, Nodes((ranks,) * nodes, rank), grains * NODE_GRAIN) for rank in range(nodes * ranks)]
    finished = [sum(p.stop - p.start for p in (deal.finished(run) for run in deal.buckets)) for deal in deals]
    assert {sum(finished[n * ranks : (n + 1) * ranks]) for n in range(nodes)} == {size // nodes}
    sent = [sum(len(deal.exchanged(run, node, node)) for run in deal.buckets for node in deal.others) for deal in deals]
    assert max(sent) <= 2 * min(sent)


def test_a_rank_adds_up_as_many_pieces_as_homes_of_which_it_has_a_part():
    sizes, size = (3,) * 20, 7 * BUCKET + 5 * NODE_GRAIN
    deal = Deal(size, Nodes(sizes, 0))
    pieces = [
        deal.added(bucket, home, rank) for bucket in deal.buckets for home in range(len(sizes)) for rank in range(3)
    ]
    assert deal.pieces == sum(piece.start < piece.stop for piece in pieces) / 3


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 9))
def test_work_is_shared_out_once_and_nearly_evenly(lengths, count):
    found = shares(lengths, count)
    assert len(found) == count
    assert sorted(number for mine in found for number in mine) == list(range(len(lengths)))
    totals = [sum(lengths[number] for number in mine) for mine in found]
    assert max(totals) - min(totals) <= max(lengths, default=0)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 60_000), st.integers(3000, 20_000))
def test_all_nodes_are_sent_the_same_pieces_of_a_sum(sizes, size, bucket):
    deals = [Deal(size, Nodes(tuple(sizes), rank), bucket) for rank in range(sum(sizes))]
    for part in deals[0].buckets:
        for deal in deals:
            common = {(p.start, p.stop) for p in deal.common(part, deal.nodes.mine) if p.start < p.stop}
            mine = deal.finished(part)
            sent, _ = deal.broadcast_messages([part])
            for node in deal.others:
                to_it = {(m.part.start, m.part.stop) for m in sent if m.rank in deal.nodes.runs[node]}
                assert to_it == {(start, stop) for start, stop in common if mine.start <= start < mine.stop}
            for message in sent:
                _, back = deals[message.rank].broadcast_messages([part])
                assert message.part in [m.part for m in back if m.rank == deal.nodes.rank]

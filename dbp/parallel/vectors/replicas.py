"""The comparison of replicas: copies of the weights on different nodes must be equal to the last bit."""

from __future__ import annotations

import hashlib
import socket
from collections import Counter

from dbp.errors import NodesDifferError
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.shards import parts, pieces
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.layout import Layout
from dbp.types import Array

DIGEST_ELEMENTS = 1 << 18  # that have a digest of their own


def check_nodes_agree(arena: Arena, weights: Array, step: int) -> None:
    """Raise NodesDifferError if nodes do not have the same weights; collective.

    Args:
        arena: of the weights.
        weights: the flat weights.
        step: after which they are these, for the message.
    """
    arena.fence(weights)
    wrong = difference(arena, weights)
    if wrong is not None:
        raise NodesDifferError(
            f"after step {step} the weights of some nodes differ from those of the others: {wrong}; no checkpoint was "
            "written from them; look at the memory and the processors there, and start again to resume from the last "
            "checkpoint"
        )


def difference(arena: Arena, weights: Array) -> str | None:
    """Return in words which copies of the weights differ from those of most nodes, and where; None if none does.

    Collective. Each rank computes the digests of its part of its node's copy: 64 bits of BLAKE2, so that an error stays
    unseen once in 2^64 times. The weights must not change meanwhile.
    """
    comm = arena.comm
    nodes = comm.nodes if arena.shared else Nodes.alone(comm.size, comm.rank)
    if nodes.count == 1:
        return None
    ranks = nodes.runs[nodes.mine]
    blocks = pieces(slice(0, len(weights)), DIGEST_ELEMENTS)
    mine = parts(len(blocks), len(ranks), comm.rank - ranks.start)
    found = b"".join(_digest(weights[blocks[i]]) for i in mine)
    everyones = comm.gather((found, socket.gethostname()))
    copies = [b"".join(everyones[rank][0] for rank in ranks) for ranks in nodes.runs]
    usual, _ = Counter(copies).most_common(1)[0]
    lines = []
    for ranks, copy in zip(nodes.runs, copies, strict=True):
        if copy != usual:
            wrong = [blocks[i] for i in range(len(blocks)) if copy[8 * i : 8 * i + 8] != usual[8 * i : 8 * i + 8]]
            who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
            lines.append(f"those of {who} on {everyones[ranks[0]][1]} in {', '.join(_names(wrong, arena.layout))}")
    return "; ".join(lines) or None


def _digest(block: Array) -> bytes:
    return hashlib.blake2b(block.data, digest_size=8).digest()


def _names(wrong: list[slice], layout: Layout) -> list[str]:
    """Return the names of the parameters that lie in some blocks."""
    starts = [0, *layout.ends]
    return [
        name
        for name, start, end in zip(layout.shapes, starts, layout.ends, strict=False)
        if any(block.start < end and start < block.stop for block in wrong)
    ]

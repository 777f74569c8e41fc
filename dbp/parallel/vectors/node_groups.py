"""Groups of nodes, within which and then between which parts of a sum are collected: fewer messages on many nodes."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from dbp.errors import UserError

GROUP_SIZE = "DBP_NODE_GROUP_SIZE"  # environment variable: the nodes of a group, to try groups on few nodes
MARGIN = 2  # times as many messages at once make stages worthwhile, whose messages wait for the stage before


@dataclass(frozen=True)
class NodeGroups:
    """Nodes in groups of neighbors, all of the same size but the last, which may be smaller.

    Each node finishes a part of a sum. In each group one node collects that part for it: the one with its position.

    Args:
        nodes: how many.
        size: nodes of a group.
    """

    nodes: int
    size: int

    @property
    def all(self) -> list[range]:
        """Return the nodes of each group."""
        return [self.of(start) for start in range(0, self.nodes, self.size)]

    def of(self, node: int) -> range:
        """Return the nodes of a node's group."""
        start = node // self.size * self.size
        return range(start, min(start + self.size, self.nodes))

    def collector(self, group: range, home: int) -> int:
        """Return the node of a group that collects what a node finishes, its home; in its own group the home itself."""
        return group[home % self.size % len(group)]

    def most_messages(self, pieces: float) -> float:
        """Return the messages of a rank in a sum in stages, if no other finishes more.

        It sends each piece to a node of its group, and collects as many messages from the group; the sums go back
        likewise. For what it finishes itself it exchanges messages with the nodes of its group and one of each other.

        Args:
            pieces: how many it adds up for all nodes.
        """
        return 4 * pieces + 2 * (self.size + len(self.all)) * math.ceil(pieces / self.nodes)


def most_messages_at_once(nodes: int, pieces: float) -> float:
    """Return the messages of a rank in a sum at once: each piece goes to its home, which hears from all other nodes."""
    return 2 * (nodes - 1) * (pieces / nodes + math.ceil(pieces / nodes))


def groups_of(nodes: int, pieces: float) -> NodeGroups | None:
    """Return the groups in which nodes exchange fewer messages; None if there are none, as for few nodes.

    Their size is a power of 2 near the root of the number of nodes: a group's shards are then a branch of the tree as
    often as a node's are, so that it sends one sum.

    Args:
        nodes: how many.
        pieces: how many a rank adds up for all nodes.

    Raises:
        UserError: GROUP_SIZE is set to something else than a number of nodes.
    """
    text = os.environ.get(GROUP_SIZE)
    if text is not None and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"{GROUP_SIZE} must be a number of nodes, but is {text!r}")
    groups = NodeGroups(nodes, 1 << (nodes.bit_length() // 2) if text is None else int(text))
    if not 1 < groups.size < nodes:
        return None
    pays = MARGIN * groups.most_messages(pieces) < most_messages_at_once(nodes, pieces)
    return groups if pays or text is not None else None

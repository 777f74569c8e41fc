"""The memory of a node while dbp trains a large model, by the number of ranks.

    python benchmarks/memory.py [--ranks 1,2,4,8] [--parameters 50e6] [--json FILE]

Trains dense layers with Adam for a few steps, with equally many examples for every rank, as dbp.fit does. The memory
of a node is the proportional set size of all its ranks, added up, so that what ranks share counts once; launchers do
not count. "libraries" is that after steps of a very small network: interpreters, libraries, MPI. "model" is, above
that, what is to be held: weights and the optimizer's vectors once, and for each rank one gradient vector, of which the
first becomes the sum, and its activations. "start" and "steps" are what was found above the libraries after the run's
start and after its steps, "highest" the most in between that two looks in a row found, 20 ms after each other; "a rank"
is by how much steps has grown for each rank that was added since the line above.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, counts, footnotes, parsed, parser, say
from programs import own_program
from tables import line, number

MOMENTS = ("started", "trained", "highest")
Node = dict[str, Any]  # what was found for one number of ranks


def of_a_rank(node: Node) -> float:
    """Return the private memory expected of a rank, in MB."""
    return node["vector"] + node["activations"]


def model(ranks: int, node: Node) -> float:
    """Return the memory expected of a number of ranks without libraries, in MB."""
    return (1 + node["optimizer vectors"]) * node["vector"] + ranks * of_a_rank(node)


def held(node: Node, moment: str) -> float:
    """Return the memory measured at a moment, without libraries, in MB."""
    return node[moment]["all"] - node["libraries"]["all"]


def growth(nodes: dict[int, Node], value: Callable[[Node], float]) -> dict[int, float]:
    """Return the growth of a value for each rank added since the previous number of ranks."""
    pairs = itertools.pairwise(nodes.items())
    return {more: (value(large) - value(small)) / (more - fewer) for (fewer, small), (more, large) in pairs}


def node_table(nodes: dict[int, Node]) -> str:
    """Return a table of measured and expected memory."""
    titles = ("node", "libraries", "model", "start", "steps", "highest", "a rank")
    lines, grown = (
        [line("MB, ranks", (f"{title} " for title in titles))],
        growth(nodes, lambda node: held(node, "trained")),
    )
    for ranks, node in nodes.items():
        libraries, found = node["libraries"]["all"], [held(node, moment) for moment in MOMENTS]
        numbers = [node["trained"]["all"], libraries, model(ranks, node), *found, grown.get(ranks)]
        lines.append(line(str(ranks), (number(mb, 0) for mb in numbers)))
    return "\n".join(lines)


def kinds_table(nodes: dict[int, Node]) -> str:
    """Return a table of the node's private and shared memory after the steps."""
    kinds = ("private", "shared", "files")
    lines = [line("MB of the node", (f"{kind} " for kind in kinds))]
    return "\n".join(
        [*lines, *(line(str(r), (number(node["trained"][k], 0) for k in kinds)) for r, node in nodes.items())]
    )


def verdict(nodes: dict[int, Node]) -> str:
    """Return the measured and the expected memory of an added rank as text."""
    some = next(iter(nodes.values()))
    lines = [
        f"{some['parameters']:,} parameters: a vector has {some['vector']:.0f} MB, a rank's activations "
        f"{some['activations']:.0f} MB; once {model(0, some):.0f} MB, for each rank {of_a_rank(some):.0f} MB"
    ]
    if len(nodes) > 1:
        moments = [lambda node, moment=moment: held(node, moment) for moment in ("trained", "highest")]
        values = [*moments, lambda node: node["libraries"]["all"]]
        steps, highest, libraries = (max(growth(nodes, value).values()) for value in values)
        lines.append(f"a rank added at most {steps:.0f} MB after steps, {highest:.0f} MB at the highest")
        lines.append(f"libraries of a rank added at most {libraries:.0f} MB")
    return "\n".join(lines)


def parameters(text: str) -> int:
    """Parse a number such as 50e6."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e5 <= value <= 1e12:
        raise argparse.ArgumentTypeError(f"must be a number from 1e5 to 1e12, but is {text!r}")
    return round(value)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--ranks", type=counts, default=[1, 2, 4, 8], help="with commas between (1,2,4,8)")
    known.add_argument("--parameters", type=parameters, default=50_000_000, help="of the model, about (50e6)")
    args = parsed(known)
    if not Path("/proc/self/smaps_rollup").exists():
        known.error("this needs /proc/self/smaps_rollup, which only Linux has")
    return args


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure each number of ranks in separate processes, print tables, and return all figures."""
    nodes: dict[int, Node] = {}
    versions: dict[str, str] = {}
    for ranks in args.ranks:
        say(f"number of ranks: {ranks}")
        told = own_program("node_memory.py", ranks).measure("--parameters", str(args.parameters))
        nodes[ranks], versions = told["results"], told["versions"]
    notes.append("weights: " + ", ".join(node["weights"] for node in nodes.values()))
    print(node_table(nodes), kinds_table(nodes), verdict(nodes), footnotes(versions, notes), sep="\n\n")
    return {"nodes": nodes, "model": {ranks: model(ranks, node) for ranks, node in nodes.items()}, "versions": versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

"""The cost of weights that do not depend on the number of ranks, by the number of shards.

    python benchmarks/shards.py [--cases mlp,cnn] [--shards 1,2,4,8] [--rounds 3] [--json FILE]

Two ranks of one machine take steps of dbp.fit, on as many examples as in versus_torch.py, cut into so many shards a
rank. "tree" is what training does: all shards of a mini-batch are summed along one tree, whoever has computed them.
"in turn" adds up the shards of a rank in their order, and then those sums, as is usual for micro-batches; its bits
depend on the ranks. Both compute the same otherwise. "tree/turn" is what the order costs; "tree/first" is what
more and smaller shards cost, beside the fewest, so that more ranks can share them later.

In each round all run one after the other, each in a process of its own. A time is the median over rounds of the
median over repetitions; a ratio is the median of the rounds' ratios. As a time counts only if nothing else ran, the
processor time that others used while it was measured is shown too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from commands import Notes, carry_out, case_names, counts, few_cores, footnotes, parsed, parser, positive
from programs import own_program
from rounds import measure_all
from steps.cases import RANKS
from tables import Comparison, Results, disturbance_table, line, number, summary

ORDERS = ("tree", "in turn")
COMPARISON = Comparison({order: (order,) for order in ORDERS}, {})


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=case_names, default=["mlp", "mlp-adam", "cnn"], help="(mlp,mlp-adam,cnn)")
    known.add_argument("--shards", type=counts, default=[1, 2, 4, 8], help="of a rank, with commas between (1,2,4,8)")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    return parsed(known)


def ratio(rounds: list[Results], above: tuple[str, str], below: tuple[str, str]) -> float:
    """Return the median over rounds of the ratio of two times, each given by order and case."""
    return statistics.median(r[above[0]][above[1]]["ms"] / r[below[0]][below[1]]["ms"] for r in rounds)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print a table, and return all figures."""
    notes += few_cores(RANKS)
    names = [f"{case}/{shards}" for case in args.cases for shards in args.shards]
    measured = measure_all([own_program("shard_steps.py")], names, args.rounds, notes)
    lines, rows = [line(f"ms, {RANKS} ranks", (*ORDERS, "tree/turn", "tree/first"))], {}
    for name in names:
        first = f"{name.partition('/')[0]}/{args.shards[0]}"
        row = rows[name] = summary(COMPARISON, measured.rounds, name)
        row["ratios"] = {
            "tree/turn": ratio(measured.rounds, ("tree", name), ("in turn", name)),
            "tree/first": ratio(measured.rounds, ("tree", name), ("tree", first)),
        }
        lines.append(line(name, (number(value) for part in ("ms", "ratios") for value in row[part].values())))
    print("\n".join(lines), disturbance_table(rows), footnotes(measured.versions, notes), sep="\n\n")
    return {"ranks": RANKS, "summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

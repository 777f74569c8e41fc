"""What it costs to follow a run: the time of a step with ten metrics, a log and a listener beside that without.

    python benchmarks/listeners.py [--cases mlp-small,mlp,cnn] [--repeats 30] [--rounds 3] [--json FILE]

Two ranks of one machine take steps of dbp.fit, "plain" with the metric of the loss alone, or "followed": with ten
metrics that are sums over examples, event files for TensorBoard, and a listener, both told of every tenth step. Both
take turns in one process, some steps each. A time is the median over rounds of the median over repetitions; "ratio" is
the median over rounds of the median of the ratios of two repetitions, one after the other. As a time counts only if
nothing else ran, the processor time that others used meanwhile is shown too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from commands import Notes, carry_out, case_names, few_cores, footnotes, parsed, parser, positive
from programs import own_program
from rounds import measure_all
from steps.cases import RANKS
from tables import Comparison, disturbance_table, line, number, summary

VARIANTS = ("plain", "followed")
COMPARISON = Comparison({variant: (variant,) for variant in VARIANTS}, {})


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=case_names, default=["mlp-small", "mlp", "cnn"], help="(mlp-small,mlp,cnn)")
    known.add_argument("--repeats", type=positive, default=30, help="repetitions in a round (30)")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    return parsed(known)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print a table, and return all figures."""
    notes += few_cores(RANKS)
    program = own_program("followed_steps.py")
    measured = measure_all([program], args.cases, args.rounds, notes, "--repeats", str(args.repeats))
    lines, rows = [line(f"ms, {RANKS} ranks", (*VARIANTS, "ratio"))], {}
    for case in args.cases:
        row = rows[case] = summary(COMPARISON, measured.rounds, case)
        row["ratios"] = {"ratio": statistics.median(found["followed"][case]["ratio"] for found in measured.rounds)}
        lines.append(line(case, [*(number(ms, 3) for ms in row["ms"].values()), number(row["ratios"]["ratio"], 3)]))
    print("\n".join(lines), disturbance_table(rows), footnotes(measured.versions, notes), sep="\n\n")
    return {"ranks": RANKS, "summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

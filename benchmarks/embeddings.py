"""The time of a step with an embedding by the number of its entries, dense and sparse, beside PyTorch.

    python benchmarks/embeddings.py [--cases 3000-dense,300000-sparse] [--rounds 3] [--json FILE]

A mini-batch is 64 examples of 10 words; the model is an embedding of 32 units and a dense layer of 10, trained by Adam.
dbp runs on two ranks, PyTorch in one process with two threads; its sparse embedding (nn.Embedding(sparse=True)) is
trained by torch.optim.SparseAdam. In each round both run one after the other, each in a process of its own. A time is
the median over rounds of the median over repetitions, and the ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, positive
from programs import STEPS, Program, has_torch, own_program
from rounds import measure_all
from steps.cases import RANKS
from steps.embedding_case import EMBEDDINGS
from tables import Comparison, disturbance_table, line, number, summary

DBP, TORCH = ("dbp",), ("PyTorch",)


def names(text: str) -> list[str]:
    """Parse names of cases, separated by commas."""
    found = text.split(",")
    if unknown := [name for name in found if name not in EMBEDDINGS]:
        raise argparse.ArgumentTypeError(f"there is no case {unknown[0]!r}; valid: {', '.join(EMBEDDINGS)}")
    return found


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=names, default=list(EMBEDDINGS), help=f"({','.join(EMBEDDINGS)})")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    return parsed(known)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print a table, and return all figures."""
    notes += few_cores(RANKS)
    programs, columns, ratios = [own_program("embedding_steps.py")], {"dbp": DBP}, {}
    if has_torch(notes):
        programs.append(Program("PyTorch", [sys.executable, str(STEPS / "torch_embeddings.py")], threads=RANKS))
        columns, ratios = {"dbp": DBP, "PyTorch": TORCH}, {"PyTorch/dbp": TORCH}
    measured, comparison = measure_all(programs, args.cases, args.rounds, notes), Comparison(columns, ratios)
    rows = {name: summary(comparison, measured.rounds, name) for name in args.cases}
    lines = [line("ms", (*columns, *ratios))]
    lines += [
        line(name, (number(value) for part in ("ms", "ratios") for value in row[part].values()))
        for name, row in rows.items()
    ]
    print("\n".join(lines), disturbance_table(rows), footnotes(measured.versions, notes), sep="\n\n")
    return {"ranks": RANKS, "summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

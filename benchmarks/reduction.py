"""dbp's sum over ranks beside MPI_Allreduce and PyTorch's all_reduce over Gloo, by size.

    python benchmarks/reduction.py [--sizes 4KiB,4MiB] [--ranks 2] [--rounds 3] [--repeats 3] [--json FILE]

The ranks of one machine sum vectors of float32; afterwards every rank sees the sum. "dbp" is what training does:
the vectors lie in shared memory, where the backward pass writes gradients, and the sum is looked through for what
is no number. "dbp private" is the same with memory of each rank's own, as between nodes. "MPI" is MPI_Allreduce of
the same MPI library on the same ranks, the better of two buffers and in place; "Gloo" is torchrun with as many
processes, in place. Each has one thread per rank, sums the same vectors again and again, so that small ones come out
of the caches for all, and is first shown to sum rightly.

In each round they run one after the other. A time is the median over rounds of the median over repetitions; a
ratio is the median of the rounds' ratios. As a time counts only if nothing else ran, the processor time that others
used while it was measured is shown too. Without PyTorch, Gloo is left out.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, positive
from programs import has_torch, own_program, torchrun
from rounds import measure_all
from steps.cases import RANKS
from steps.vectors import Vector
from tables import Comparison, disturbance_table, summary, time_table

SIZES = ["4KiB", "16KiB", "64KiB", "256KiB", "1MiB", "4MiB", "16MiB", "64MiB", "256MiB"]
PEERS = {"MPI": ("MPI", "MPI in place"), "Gloo": ("Gloo",)}
COMPARISON = Comparison(
    {"dbp": ("dbp",), "dbp private": ("dbp private",), **PEERS},
    {f"{name}/dbp": variants for name, variants in PEERS.items()},
)


def sizes(text: str) -> list[str]:
    """Parse sizes, separated by commas."""
    names = list(dict.fromkeys(text.split(",")))
    try:
        for name in names:
            Vector.of(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument(
        "--sizes", type=sizes, default=SIZES, help=f"of a vector, with commas between ({','.join(SIZES)})"
    )
    known.add_argument("--ranks", type=positive, default=RANKS, help=f"that sum ({RANKS})")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    known.add_argument("--repeats", type=positive, default=3, help="least number of repetitions in a round (3)")
    return parsed(known)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure times, print them, and return all figures."""
    notes += few_cores(args.ranks)
    programs = [own_program("dbp_sums.py", args.ranks)]
    if has_torch(notes):
        programs.append(torchrun("Gloo", "gloo_sums.py", args.ranks))
    measured = measure_all(programs, args.sizes, args.rounds, notes, "--repeats", str(args.repeats))
    rows = {size: summary(COMPARISON, measured.rounds, size) for size in args.sizes}
    largest = max(args.sizes, key=lambda size: Vector.of(size).bytes)
    notes.append(f"dbp's vectors of {largest}: {measured.rounds[0]['dbp'][largest]['memory']}")
    times = time_table(f"ms, {args.ranks} ranks", rows)
    print(times, disturbance_table(rows), footnotes(measured.versions, notes), sep="\n\n")
    return {"ranks": args.ranks, "summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

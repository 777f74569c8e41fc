"""The price of kernels = "x86-64-v3": the processor time of a step with native kernels and with these.

One rank with one thread, with both kernels in turn, in several rounds. The table has medians over the rounds, of times
and of the ratios within a round. Processor time and ratios say something on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from commands import Notes, carry_out, case_names, footnotes, parsed, parser, positive
from programs import FailedError, Program, own_program
from rounds import measure_all
from tables import Results, line, number

from dbp.kernels import NATIVE, X86_64_V3, lacks


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=case_names, default=["mlp", "mlp-adam", "cnn"], help="(mlp,mlp-adam,cnn)")
    known.add_argument("--rounds", type=positive, default=5, help="how often all run in turn (5)")
    return parsed(known)


def program(kernels: str) -> Program:
    """Return the program that measures with some kernels."""
    own = own_program("kernel_steps.py", ranks=1)
    return Program(own.name, [*own.command, kernels], own.threads)


def row(rounds: list[Results], case: str) -> dict[str, float]:
    """Return the median times of a case, and the median, least and largest ratio."""
    times = {kernels: [found[kernels][case]["ms"] for found in rounds] for kernels in (NATIVE, X86_64_V3)}
    ratios = [pinned / native for native, pinned in zip(times[NATIVE], times[X86_64_V3], strict=True)]
    medians = {kernels: statistics.median(found) for kernels, found in times.items()}
    return medians | {"ratio": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print a table, and return all figures."""
    if missing := lacks(X86_64_V3):
        raise FailedError(f'kernels = "{X86_64_V3}" needs {missing}')
    measured = measure_all([program(NATIVE), program(X86_64_V3)], args.cases, args.rounds, notes)
    rows = {case: row(measured.rounds, case) for case in args.cases}
    lines = [line("ms of a processor", (NATIVE, X86_64_V3, "ratio", "least", "largest"))]
    lines += [line(case, map(number, found.values())) for case, found in rows.items()]
    print("\n".join(lines), footnotes(measured.versions, notes), sep="\n\n")
    return {"summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

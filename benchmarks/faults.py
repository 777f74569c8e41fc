"""Faults, by the hundred, and what they cost: nothing may be lost, hang or come out with other bits.

    python benchmarks/faults.py [--count 500] [--seed 0] [--kinds "signals,full disks"] [--json FILE]

Injects at least so many faults of all kinds: file system calls of a save, of a training and of jobs on two and three
ranks that fail or kill, once or for good; checkpoints with changed bytes; files that are prepared to do harm; signals
to ranks at every stage; ranks that die, raise or leave; stop files, time limits, second jobs; disks that are full; two
runs at once in one folder, links in it, data that is cut off, output that goes nowhere, and a launcher that is killed.
After each, what is there must be whole and of the very run, and a job that goes on must come to the bits of one that
nothing has broken. The table counts what was not so; the exit code is 1 if there is any. The same seed draws
the same faults. Needs a C compiler (Debian: gcc and libc6-dev) and mpirun; small disks need root, and are left out
without.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, footnotes, parsed, parser, positive, say
from tables import line

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.fault_injection import injector
from tests.fault_injection.kinds import KINDS, Case, prepare, shares

SORTS = {"losses": "loss", "hangs": "hang", "wrong bits": "wrong bits"}  # of what is wrong; all else is "other"


def kinds(text: str) -> list[str]:
    """Parse names of kinds, separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"there is no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    return names


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--count", type=positive, default=500, help="faults at least (500)")
    known.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    known.add_argument("--kinds", type=kinds, default=list(KINDS), help=f"some of: {', '.join(KINDS)}")
    found = parsed(known)
    if reason := injector.why_not():
        known.error(reason)
    return found


def row(cases: list[Case]) -> dict[str, int]:
    """Return the figures of one kind: faults injected, faults that took effect, and failures."""
    wrong = [case.wrong for case in cases if case.wrong]
    counts = {title: sum(text.startswith(word) for text in wrong) for title, word in SORTS.items()}
    met = sum(case.met for case in cases)
    return {"injected": met, **counts, "other": len(wrong) - sum(counts.values())}


def table(rows: dict[str, dict[str, int]]) -> str:
    """Return a table with a line for each kind, and one for all kinds."""
    titles = ("injected", *SORTS, "other")
    rows = rows | {"all": {title: sum(found[title] for found in rows.values()) for title in titles}}
    width = max(map(len, rows)) + 1
    lines = [" " * width + line("", (f"{title} " for title in titles)).lstrip().rjust(12 * len(titles))]
    lines += [name.ljust(width) + "".join(f"{found[title]:>11d} " for title in titles) for name, found in rows.items()]
    return "\n".join(text.rstrip() for text in lines)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Inject faults kind by kind, print a table, and return all figures."""
    found: dict[str, list[Case]] = {}
    with tempfile.TemporaryDirectory(prefix="dbp-faults-") as folder:
        context = prepare(Path(folder), args.seed)
        chosen = [kind for kind in args.kinds if kind != "full disks" or context.disks]
        if len(chosen) < len(args.kinds):
            notes.append("full disks are left out, as small disks cannot be mounted here")
        for kind, count in shares(args.count, chosen).items():
            say(f"{kind}: {count}")
            found[kind] = _carried_out(kind, count, context)
    print(table({kind: row(cases) for kind, cases in found.items()}), footnotes({}, notes), sep="\n\n")
    results = {kind: [vars(case) for case in cases] for kind, cases in found.items()}
    return {"seed": args.seed, "kinds": {kind: row(cases) for kind, cases in found.items()}, "cases": results}


def _carried_out(kind: str, count: int, context: Any) -> list[Case]:
    """Inject until a number of faults took effect; faults that came too late for any call are drawn again."""
    cases: list[Case] = []
    while (missing := count - sum(case.met for case in cases)) > 0:
        for case in KINDS[kind][1](context, missing):
            cases.append(case)
            if case.wrong:
                say(f"{kind}: {case.words}: {case.wrong}")
    return cases


def main() -> int:
    """Measure; return exit code 1 if anything failed."""
    wrong = 0

    def measure(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
        nonlocal wrong
        results = report(args, notes)
        wrong = sum(sum(row.values()) - row["injected"] for row in results["kinds"].values())
        return results

    return carry_out(measure, arguments()) or int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

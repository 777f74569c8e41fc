"""dbp beside PyTorch DistributedDataParallel, one-process PyTorch and JAX: time and memory of a training step.

    python benchmarks/versus_torch.py [--cases cnn,vgg] [--rounds 3] [--repeats 3] [--json FILE] [--jax-python PATH]
    python benchmarks/versus_torch.py --memory [--cases ...]     the resident memory of a process instead
    python benchmarks/versus_torch.py --profile cnn              where the time of dbp's step goes

Thirteen networks (steps/cases.py), the same work for all: two ranks with one BLAS thread each, or one process with
two threads and the mini-batch of both; random inputs, always the same mini-batch, so that no data is loaded. dbp's
step is that of dbp.fit: forward, loss, backward, the sum over ranks, the check for finite numbers, the optimizer. DDP
is torchrun with two processes over Gloo, with gradient_as_bucket_view and static_graph; "best DDP" is the best of
that, DDP(model) as it is, and, for images, channels last. "PyTorch" is one process, the better of both layouts.
JAX is the whole step jitted, in the layout that is faster in a trial.

In each round dbp and its peers run one after the other. A time is the median over rounds of the median over
repetitions; a ratio is the median of the rounds' ratios; the least and the largest of the rounds are shown below. As a
time counts only if nothing else ran, the processor time that others used while it was measured is shown too. A peer
that is not installed is left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, case_names, few_cores, footnotes, parsed, parser, positive
from programs import Program, installed_programs, own_program
from rounds import Measured, measure_all
from steps.cases import CASES, RANKS
from tables import MEMORY, Comparison, Results, disturbance_table, memory_table, spread_table, summary, time_table

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.processes import TimeLimitError, output_of

DDP = {"DDP": ("DDP",), "best DDP": ("DDP", "DDP plain", "DDP channels last")}
ONE_PROCESS = {"PyTorch": ("PyTorch", "PyTorch channels last"), "JAX": ("JAX",)}
PEERS = (*DDP["best DDP"], *ONE_PROCESS["PyTorch"], *ONE_PROCESS["JAX"])
COMPARISON = Comparison({"dbp": ("dbp",), **DDP, **ONE_PROCESS}, {"DDP/dbp": DDP["DDP"], "best/dbp": PEERS})


def measure_memory(programs: list[Program], cases: list[str], notes: Notes) -> Measured:
    """Measure the memory of each case in separate processes, so that none reuses memory of another."""
    results: Results = {}
    versions: dict[str, str] = {}
    chosen = [program for program in programs if program.name in MEMORY]
    for case in cases:
        one = measure_all(chosen, [case], 1, notes, "--memory")
        for variant, by_case in one.rounds[0].items():
            results.setdefault(variant, {}).update(by_case)
        versions |= one.versions
    return Measured([results], versions)


# --- the command line ----------------------------------------------------------------------------------


def python(text: str) -> str:
    """Parse the path of a Python that can be started."""
    try:
        output_of(text, "-c", "", timeout=60)
    except (OSError, RuntimeError, TimeLimitError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no Python that can be started ({error})") from None
    return text


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=case_names, default=list(CASES), help=f"some of {','.join(CASES)}")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    known.add_argument("--repeats", type=positive, default=3, help="least number of repetitions in a round (3)")
    known.add_argument("--jax-python", type=python, default=sys.executable, metavar="PATH", help="a Python with jax")
    what = known.add_mutually_exclusive_group()
    what.add_argument("--memory", action="store_true", help="measure resident memory")
    what.add_argument("--profile", type=case_names, metavar="CASE", help="tell where dbp's time goes")
    args = parsed(known)
    if args.memory and not Path("/proc/self/status").exists():
        known.error("--memory needs /proc/self/status, which only Linux has")
    if args.json and args.profile:
        known.error("--json goes with times and memory, not with --profile")
    return args


def report_times(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure times, print them, and return all figures."""
    found = installed_programs(args.jax_python, notes)
    measured = measure_all(found, args.cases, args.rounds, notes, "--repeats", str(args.repeats))
    rows = {case: summary(COMPARISON, measured.rounds, case) for case in args.cases}
    tables = time_table("ms per step", rows), spread_table(measured.rounds, PEERS, args.cases), disturbance_table(rows)
    print(*tables, footnotes(measured.versions, notes), sep="\n\n")
    return {"summary": rows, "rounds": measured.rounds, "versions": measured.versions}


def report_memory(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure memory, print it, and return all figures."""
    measured = measure_memory(installed_programs(None, notes), args.cases, notes)
    print(memory_table(measured.rounds[0], args.cases, RANKS), footnotes(measured.versions, notes), sep="\n\n")
    return {"memory": measured.rounds[0], "versions": measured.versions}


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure what the command line names."""
    if args.profile:
        print(own_program().run("--profile", "--cases", ",".join(args.profile)), end="")
        return {}
    notes += few_cores(RANKS)
    return report_memory(args, notes) if args.memory else report_times(args, notes)


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))

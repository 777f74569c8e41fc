"""dbp beside PyTorch DistributedDataParallel, one-process PyTorch and JAX: time and memory of a training step.

    python benchmarks/versus_torch.py [--cases cnn,vgg] [--rounds 3] [--repeats 3] [--json FILE] [--jax-python PATH]
    python benchmarks/versus_torch.py --memory [--cases ...]     the resident memory of a rank instead
    python benchmarks/versus_torch.py --profile cnn              where the time of dbp's step goes

Six networks, the same work for all: two ranks with one BLAS thread each, or one process with two threads and
the mini-batch of both; random inputs, always the same mini-batch, so that no data is loaded. dbp's step is that
of dbp.fit: forward, loss, backward, the sum over ranks, the check for finite numbers, the optimizer. DDP is
torchrun with two processes over Gloo, with gradient_as_bucket_view and static_graph; "best DDP" is the best of
that, DDP(model) as it is, and, for images, channels last. "PyTorch" is one process, the better of both layouts.
JAX is the whole step jitted, in the layout that is faster in a trial.

In each round dbp and its peers run one after the other. A time is the median over rounds of the median over
repetitions; a ratio is the median of the rounds' ratios. As a time counts only if nothing else ran, the
processor time that others used while it was measured is shown too. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import FailedError, Program, installed_programs, own_program
from steps.cases import CASES, RANKS
from tables import Results, disturbance_table, memory_table, summary, time_table


def say(text: str) -> None:
    """Tell the user how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@dataclass
class Measured:
    """What came out.

    Args:
        rounds: the results of each round.
        versions: of dbp, its peers, and their libraries.
        notes: for the user, beneath the table.
    """

    rounds: list[Results]
    versions: dict[str, str]
    notes: list[str]


def measure_all(programs: list[Program], cases: list[str], rounds: int, notes: list[str], *words: str) -> Measured:
    """Run all programs in turn, in several rounds; a peer that fails is left out from then on."""
    measured, running = Measured([], {}, notes), list(programs)
    for number in range(rounds):
        results: Results = {}
        for program in list(running):
            start = time.perf_counter()
            say(f"round {number + 1} of {rounds}: {program.name} on {', '.join(cases)}")
            try:
                told = program.measure(cases, *words)
            except FailedError as error:
                if program.name == "dbp":
                    raise
                running.remove(program)
                notes.append(f"{program.name} failed: {error}")
                say(notes[-1])
                continue
            results |= told["results"]
            measured.versions |= told["versions"]
            say(f"    {time.perf_counter() - start:.0f} s")
        measured.rounds.append(results)
    complete = set.intersection(*map(set, measured.rounds))  # what failed in any round is left out of all
    measured.rounds = [{v: by_case for v, by_case in r.items() if v in complete} for r in measured.rounds]
    return measured


def measure_memory(programs: list[Program], cases: list[str], notes: list[str]) -> Measured:
    """Each case in processes of its own, so that none finds memory that another has left."""
    results: Results = {}
    versions: dict[str, str] = {}
    two_ranks = [program for program in programs if program.name in ("dbp", "DDP")]
    for case in cases:
        one = measure_all(two_ranks, [case], 1, notes, "--memory")
        for variant, by_case in one.rounds[0].items():
            results.setdefault(variant, {}).update(by_case)
        versions |= one.versions
    return Measured([results], versions, notes)


# --- the machine and the command line -------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The processor, its cores, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = models[0] if models else platform.processor() or platform.machine()
    return {"processor": processor, "cores": cores, "system": platform.platform(), "python": platform.python_version()}


def footnotes(measured: Measured) -> str:
    """Machine, versions and notes."""
    facts = machine() | measured.versions
    return "\n".join([*(f"{name}: {value}" for name, value in facts.items()), *measured.notes])


def case_names(text: str) -> list[str]:
    """Names with commas between, all of them known."""
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in CASES]:
        raise argparse.ArgumentTypeError(f"there is no case {unknown[0]!r}; valid: {', '.join(CASES)}")
    return names


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but is {text!r}")
    return int(text)


def python(text: str) -> str:
    """A Python that can be started."""
    try:
        subprocess.run([text, "-c", ""], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no Python that can be started ({error})") from None
    return text


def arguments() -> argparse.Namespace:
    """The command line."""
    summary_line, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary_line, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=case_names, default=list(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    parser.add_argument("--repeats", type=positive, default=3, help="least number of repetitions in a round (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--jax-python", type=python, default=sys.executable, metavar="PATH", help="a Python with jax")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--memory", action="store_true", help="measure resident memory, of dbp and DDP")
    what.add_argument("--profile", type=case_names, metavar="CASE", help="tell where dbp's time goes")
    parsed = parser.parse_args()
    if parsed.json and not parsed.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {parsed.json.absolute().parent}")
    if parsed.memory and not Path("/proc/self/status").exists():
        parser.error("--memory needs /proc/self/status, which only Linux has")
    if parsed.json and parsed.profile:
        parser.error("--json goes with times and memory, not with --profile")
    return parsed


def report_times(args: argparse.Namespace, notes: list[str]) -> dict[str, Any]:
    """Measure times and print them; gives all of it."""
    found = installed_programs(args.jax_python, notes)
    measured = measure_all(found, args.cases, args.rounds, notes, "--repeats", str(args.repeats))
    rows = {case: summary(measured.rounds, case) for case in args.cases}
    print(time_table(rows), disturbance_table(rows), footnotes(measured), sep="\n\n")
    return {"summary": rows, "rounds": measured.rounds, "versions": measured.versions}


def report_memory(args: argparse.Namespace, notes: list[str]) -> dict[str, Any]:
    """Measure memory and print it; gives all of it."""
    measured = measure_memory(installed_programs(None, notes), args.cases, notes)
    print(memory_table(measured.rounds[0], args.cases), footnotes(measured), sep="\n\n")
    return {"memory": measured.rounds[0], "versions": measured.versions}


def main() -> int:
    """Measure what the command line asks for."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # not without ending what was started
    notes: list[str] = []
    if machine()["cores"] < RANKS:
        notes.append(f"warning: {RANKS} ranks or threads share one core here; these times say little")
    try:
        if args.profile:
            print(own_program().run("--profile", "--cases", ",".join(args.profile)), end="")
            return 0
        told = report_memory(args, notes) if args.memory else report_times(args, notes)
    except FailedError as error:
        say(f"dbp failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), **told, "notes": notes}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

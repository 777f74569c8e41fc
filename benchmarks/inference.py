"""Evaluation and prediction with a trained model beside PyTorch's inference_mode.

    python benchmarks/inference.py [--cases cnn,vgg,resnet,mlp,autoencoder-adam] [--rounds 3] [--json FILE]

dbp evaluates (cost and accuracy, as `dbp eval`) or predicts (the outputs, as TrainedModel.predict) all examples of a
data set, which are in memory or in an HDF5 file, on two ranks with one BLAS thread each, and on one. PyTorch does the
same in one process with two threads: the model in eval(), torch.inference_mode(), the fastest of some batch sizes, and
of both layouts of images. Its examples are in the layout that it computes in; those of a file are read by h5py, a batch
at a time. The time is that of a whole pass, with the opening of the file and dbp's checks of the numbers.

A ratio above 1 says how many times as fast dbp on two ranks is.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, positive
from programs import STEPS, Program, has_torch, own_program
from rounds import measure_all
from steps.cases import RANKS
from tables import Comparison, line, number, summary

sys.path.insert(0, str(STEPS))

from passes import EXAMPLES, SOURCES, WORK, Pass

PEERS = ("PyTorch", "PyTorch channels last")
COMPARISON = Comparison(
    {"dbp": ("dbp",), "one rank": ("one rank",), "PyTorch": PEERS}, {"PyTorch/dbp": PEERS, "one/two": ("one rank",)}
)


def names_of(text: str) -> list[str]:
    """Parse names of cases, separated by commas."""
    names = text.split(",")
    if unknown := [name for name in names if name not in EXAMPLES]:
        raise argparse.ArgumentTypeError(f"there is no case {unknown[0]!r}; valid: {', '.join(EXAMPLES)}")
    return names


def speed_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return a table of examples a second, ratios, and the most cores that others used meanwhile."""
    some = next(iter(rows.values()))
    lines = [line("1,000 examples/s", (*some["ms"], *some["ratios"], "others"))]
    before = ""
    for name, row in rows.items():
        one = Pass.of(name)
        lines += [] if one.name == before else [one.name]
        before = one.name
        speeds = [number(None if ms is None else one.examples / ms) for ms in row["ms"].values()]
        others = max((cores for cores in row["others"].values() if cores is not None), default=None)
        cells = (*speeds, *map(number, row["ratios"].values()), number(others))
        lines.append(line(f"  {one.work}, {one.source}", cells))
    return "\n".join(lines)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure what the command line names, print it, and return all figures."""
    notes += few_cores(RANKS)
    programs = [own_program("inference_steps.py", ranks) for ranks in (RANKS, 1)]
    if has_torch(notes):
        programs.append(Program("PyTorch", [sys.executable, str(STEPS / "torch_inference.py")], threads=RANKS))
    names = [f"{case}/{work}/{source}" for case in args.cases for work in WORK for source in SOURCES]
    measured = measure_all(programs, names, args.rounds, notes)
    rows = {name: summary(COMPARISON, measured.rounds, name) for name in names}
    print(speed_table(rows), footnotes(measured.versions, notes), sep="\n\n")
    return {"summary": rows, "rounds": measured.rounds, "versions": measured.versions}


if __name__ == "__main__":
    known = parser(__doc__)
    known.add_argument("--cases", type=names_of, default=list(EXAMPLES), help=f"some of {','.join(EXAMPLES)}")
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    sys.exit(carry_out(report, parsed(known)))

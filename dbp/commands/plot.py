"""dbp plot: draw the curves of runs as a picture."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_runs
from dbp.terminal import print_output

HELP = "draw the curves of runs as SVG, PNG or PDF"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_runs(parser)
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the picture: .svg, .png or .pdf")
    parser.add_argument("--metric", action="append", default=[], metavar="NAME", help="one of its plots (default: all)")


def run(arguments: Namespace) -> int:
    """Write the picture."""
    from dbp.report.plot import plot
    from dbp.report.record import records_of

    records = records_of([Path(path) for path in arguments.runs])
    print_output(plot(records, Path(arguments.out), arguments.metric), wrapped=True)
    return 0

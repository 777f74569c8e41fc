"""dbp compare: print runs beside one another."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_runs
from dbp.terminal import print_output

HELP = "print what differs between runs, and what came out"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_runs(parser)
    parser.add_argument(
        "--by", default="", metavar="COLUMN", help="of the history, such as validation_cost; sorts the runs"
    )
    parser.add_argument("--csv", action="store_true", help="print comma-separated values, with all columns")


def run(arguments: Namespace) -> int:
    """Print the comparison."""
    from dbp.report.compare import compare_csv, compare_text
    from dbp.report.record import records_of

    records = records_of([Path(path) for path in arguments.runs])
    print_output((compare_csv if arguments.csv else compare_text)(records, arguments.by))
    return 0

"""dbp report: write the report of runs as one HTML page, or show it while they go on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.commands.parser import Parser, add_code, add_data_names, add_runs, data_of
from dbp.terminal import print_output

if TYPE_CHECKING:
    from dbp.report.markup import Markup
    from dbp.report.record import RunRecord

HELP = "write the report of one run or several as a page for browsers"
ON_RANKS = False
PORT = 8765


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_runs(parser)
    parser.add_argument("-o", "--out", default="report.html", metavar="FILE", help="the page (default: report.html)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE even if it is no report")
    parser.add_argument("--data", metavar="DATA", help="inputs and targets, for neurons, mistaken examples and images")
    parser.add_argument("--watch", action="store_true", help="show the page while the runs go on; written at their end")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of --watch on this machine (default: {PORT})")
    add_data_names(parser)
    add_code(parser)
    parser.add_argument("--last", action="store_true", help="with --data: take the last weights, not the best")


def run(arguments: Namespace) -> int:
    """Write or show the report."""
    from dbp.report.writing import check_replaceable, watch, write_report

    paths, out = [Path(path) for path in arguments.runs], Path(arguments.out)
    check_replaceable(out, arguments.overwrite)

    def of_data(record: RunRecord) -> list[Markup]:
        if arguments.data is None:
            return []
        from dbp.report.on_data import sections_on_data

        return sections_on_data(record, data_of(arguments), arguments.last, arguments.code)

    if arguments.watch:
        print_output(watch(paths, out, of_data, arguments.port, print_output))
    else:
        print_output(write_report(paths, out, of_data), wrapped=True)
    return 0

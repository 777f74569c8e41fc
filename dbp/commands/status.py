"""dbp status: print the state of a run, also while it is running."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser
from dbp.terminal import print_output

HELP = "print the state of a run, also while it is running"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing; the exit code is the state, see docs/batch.md"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait at most this long for the run to end"
    )


def run(arguments: Namespace) -> int:
    """Print the state of the run; with --quiet return it as the exit code."""
    from dbp.batch.status import wait_for_end

    status = wait_for_end(Path(arguments.run), arguments.wait)
    if arguments.quiet:
        return status.code
    print_output(status.json if arguments.json else status.text)
    return 0

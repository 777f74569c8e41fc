"""dbp status: print the state of a run, or of all runs in a folder, also while they run."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser
from dbp.errors import UsageError
from dbp.terminal import print_output

HELP = "print the state of a run, or of all runs in a folder"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or a folder of runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing; the exit code is the state, see docs/batch.md"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait at most this long for the run to end"
    )


def run(arguments: Namespace) -> int:
    """Print the state of the run; with --quiet return it as the exit code."""
    from dbp.batch.status import runs_in, text_of_runs, wait_for_end
    from dbp.saving.folder import STATUS_FILE

    if not os.path.lexists(Path(arguments.run) / STATUS_FILE) and (runs := runs_in(Path(arguments.run))):
        if arguments.quiet or arguments.wait:
            raise UsageError(f"--quiet and --wait are for one run, but {arguments.run} is a folder of {len(runs)}")
        print_output(json.dumps([status.fields for status in runs], indent=1) if arguments.json else text_of_runs(runs))
        return 0
    status = wait_for_end(Path(arguments.run), arguments.wait)
    if arguments.quiet:
        return status.code
    if arguments.json:
        print_output(json.dumps(status.fields, indent=1))
    else:
        print_output(status.text, wrapped=True)
    return 0

"""dbp verify: check that checkpoints are intact."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser
from dbp.errors import DataError
from dbp.terminal import print_output

HELP = "check that a checkpoint, or each checkpoint of a run, is intact"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for all of them")


def run(arguments: Namespace) -> int:
    """Print a verdict on each checkpoint; return the exit code of DataError if one is damaged."""
    from dbp.checkpoint import all_of, verdict

    verdicts = [verdict(path) for path in all_of(Path(arguments.checkpoint))]
    print_output("\n".join(text for text, _ in verdicts), wrapped=True)
    return 0 if all(intact for _, intact in verdicts) else DataError.exit_code

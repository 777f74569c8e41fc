"""dbp inspect: print what a checkpoint contains."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_checkpoint
from dbp.terminal import print_output

HELP = "print what a checkpoint contains"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    parser.add_argument("--all", action="store_true", help="print all numbers of its progress, its arrays and config")
    parser.add_argument("--digest", action="store_true", help="print only a SHA-256 of all weights and their names")


def run(arguments: Namespace) -> int:
    """Print the description of the checkpoint, or its digest."""
    from dbp.checkpoint import digest_arrays, find
    from dbp.trained.contents import describe, describe_all

    shown = describe_all if arguments.all else describe
    with find(Path(arguments.checkpoint), last=True) as found:
        print_output(digest_arrays(found.load().model) if arguments.digest else shown(found))
    return 0

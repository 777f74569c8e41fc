"""dbp doctor: check whether ranks can train here and how fast, and print what to fix."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser

HELP = "check whether ranks can train here, how fast, and what to fix"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "config", nargs="?", type=Path, help="a TOML file, whose step is timed with fewer ranks of more threads each"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    parser.add_argument("--threads", default="1", metavar="T", help="threads of a rank, or auto (default: 1)")
    parser.add_argument("--out", default=".", metavar="FOLDER", help="folder for a run's files (default: .)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Examine the ranks of this job; collective."""
    from dbp.doctor import doctor

    return doctor(arguments.threads, arguments.out, arguments.json, arguments.config, arguments.set)

"""The commands of dbp, one module each.

A module holds the command's line of help (HELP), whether it works on several ranks (ON_RANKS), its arguments (`add`)
and what it does (`run`). What a command needs is imported by its `run`: thousands of ranks may start at once, and each
then loads no more than its own command.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from dbp.commands.parser import Parser

COMMANDS = (
    "train",
    "eval",
    "predict",
    "inspect",
    "verify",
    "summary",
    "neurons",
    "convert",
    "export",
    "import",
    "run",
    "submit",
    "status",
    "doctor",
)


class Command(Protocol):
    """A module of this package that is a command."""

    HELP: str
    ON_RANKS: bool

    def add(self, parser: Parser) -> None:
        """Add the command's arguments to its parser."""

    def run(self, arguments: Namespace) -> int:
        """Run the command and return its exit code."""


def load(name: str) -> Command:
    """Return the module of a command."""
    module = "import_" if name == "import" else name  # Python keeps the name for itself
    return cast("Command", importlib.import_module(f"dbp.commands.{module}"))

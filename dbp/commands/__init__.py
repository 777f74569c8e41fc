"""The commands of dbp, one module each.

To add a command:

1. Write a module of its name with HELP, its line of help; ON_RANKS, whether it works on several ranks; `add`, which
   adds its arguments to a parser; and `run`, which runs it and returns its exit code.
2. Import what the command needs inside `run`: thousands of ranks may start at once, and each then loads no more than
   its own command.
3. Add the name to COMMANDS below, to SAVE_ON_SIGNAL if signals must not end it at once, to IN_ONE_PROCESS if it writes
   a file and does not work on ranks, and its row to the table in docs/running.md.
4. Test it in tests/test_cli.py, or with the package that does the work.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from dbp.commands.parser import Parser

COMMANDS = (
    "new",
    "train",
    "eval",
    "predict",
    "inspect",
    "verify",
    "check",
    "summary",
    "neurons",
    "report",
    "plot",
    "compare",
    "convert",
    "export",
    "import",
    "run",
    "submit",
    "status",
    "doctor",
)
IN_ONE_PROCESS = {"new", "convert", "export", "import", "plot", "report"}  # which write files
SAVE_ON_SIGNAL = {"train"}  # commands that a signal makes save and stop, from their first moment on


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

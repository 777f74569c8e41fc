"""dbp run: start a dbp command, a Python script or a program on several ranks."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dbp import kernels
from dbp.commands import COMMANDS, load
from dbp.commands.parser import Parser
from dbp.errors import UserError

HELP = "start a command on several ranks: dbp run -n 4 -- train CONFIG"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.usage = "dbp run -n N -- COMMAND ..."
    parser.add_argument("-n", dest="ranks", type=int, default=None, metavar="N", help="ranks (default: one a core)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads of a rank outside of training")
    parser.add_argument(
        "--survive", action="store_true", help="let a training continue when some of its ranks die (Open MPI 5)"
    )
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="a dbp command, a Python script, or a program")


def run(arguments: Namespace) -> int:
    """Start the ranks, wait for them and return their exit code."""
    from dbp.batch.launch import launch

    command, variables = rank_command(arguments.words), kernel_variables(arguments.words)
    return launch(command, arguments.ranks, arguments.threads, arguments.survive, variables)


def rank_command(words: Sequence[str]) -> list[str]:
    """Return what each rank executes.

    Raises:
        UserError: there is no such command or script, or it is a command of dbp that does not work on ranks.
    """
    name = words[0]
    if name in COMMANDS:
        if not load(name).ON_RANKS:
            raise UserError(f"dbp {name} works in one process; start it without dbp run")
        return [sys.executable, "-m", "dbp", *words]
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"there is no script {name} (looked for {Path(name).absolute()})")
        return [sys.executable, "-m", "dbp.script", *words]
    if shutil.which(name) is None:
        known = ", ".join(command for command in COMMANDS if load(command).ON_RANKS)
        raise UserError(f"there is no command {name!r}; valid: {known}, a script.py, or a program")
    return [*words]


def kernel_variables(words: Sequence[str]) -> dict[str, str]:
    """Return the environment variables for the kernels that a training asks for."""
    if words[0] != "train":
        return {}
    parser = Parser(prog="dbp train")
    load("train").add(parser)
    arguments = parser.parse_args(words[1:])
    return kernels.variables(kernels.configured(Path(arguments.config), arguments.set))

"""dbp check: check all rows of a data set, in parallel."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from dbp.commands.parser import Parser, add_data, data_of

HELP = "check all rows of a data set, also for the model of a config"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file with names, model and loss")


def run(arguments: Namespace) -> int:
    """Check the data on all ranks; collective. The exit code is that of DataError if an example breaks a rule."""
    from dataclasses import replace
    from pathlib import Path

    from dbp.config.data import Data
    from dbp.config.from_table import read_settings
    from dbp.parallel import END_AFTER, abort_on_error, agree, world
    from dbp.run.whole_check import check_whole
    from dbp.terminal import print_output, write_error

    comm = world(end_after=END_AFTER)
    file = data_of(arguments)
    settings = agree(comm, read_settings, Path(arguments.config), []) if arguments.config else None
    stated: dict[str, Any] = {**file.names, **({} if file.scale is None else {"scale": file.scale, "shift": None})}
    data = agree(comm, lambda: replace(settings.data if settings else Data(file.path), **stated))
    with abort_on_error(comm):
        text = check_whole(file.path, data, settings, comm, write_error)
    if comm.rank == 0:
        print_output(text, wrapped=True)
    return 0

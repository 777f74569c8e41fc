"""dbp summary: print what the model of a config file, or of a run, consists of and costs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.commands.parser import Parser, add_code, add_config, add_input_shape
from dbp.errors import UserError
from dbp.terminal import print_output

if TYPE_CHECKING:
    from dbp.summary import Summary

HELP = "print layers, shapes, parameters, work and memory of a model"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_config(parser, "a TOML file, a run's folder or a checkpoint")
    add_input_shape(parser)
    add_code(parser)


def run(arguments: Namespace) -> int:
    """Print the summary of the model of a config, a run or a checkpoint."""
    path = Path(arguments.config)
    is_trained = path.is_dir() or path.suffix == ".h5"
    print_output(str(_of_trained(path, arguments) if is_trained else _of_config(path, arguments)))
    return 0


def _of_config(path: Path, arguments: Namespace) -> Summary:
    from dbp.config.from_table import read_settings
    from dbp.summary import summary_of

    if arguments.code is not None:
        raise UserError("--code is for a run or a checkpoint, as a config finds Python code beside it; leave it out")
    return summary_of(read_settings(path, arguments.set), arguments.input)


def _of_trained(path: Path, arguments: Namespace) -> Summary:
    from dbp.trained.loading import load

    if arguments.set:
        raise UserError(f"--set changes the keys of a config, but {path} is trained; give the config instead")
    return load(path, code=arguments.code).summary(arguments.input)

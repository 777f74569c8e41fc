"""dbp summary: print what the model of a config file consists of and costs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_config, add_input_shape
from dbp.terminal import print_output

HELP = "print layers, shapes, parameters, work and memory of a model"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_input_shape(parser)


def run(arguments: Namespace) -> int:
    """Print the summary of the config's model."""
    from dbp.config.toml import read_settings
    from dbp.summary import summary_of

    settings = read_settings(Path(arguments.config), arguments.set)
    print_output(str(summary_of(settings, arguments.input)))
    return 0

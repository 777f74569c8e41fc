"""dbp import: make a checkpoint of the weights of another program."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_config, add_hdf5_output, add_input_shape, add_names_of_pytorch
from dbp.terminal import print_output

HELP = "make a checkpoint of another program's weights"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("weights", metavar="WEIGHTS", help="a .safetensors or .npz file")
    add_config(parser)
    add_hdf5_output(parser)
    add_input_shape(parser)
    parser.add_argument(
        "--from",
        dest="origin",
        default="dbp",
        metavar="ORIGIN",
        help="pytorch if names and axes are those of a state_dict (default: dbp)",
    )
    add_names_of_pytorch(parser)
    parser.add_argument(
        "--partial",
        action="store_true",
        help="take what fits, draw the other weights of the model from its seed, and list them",
    )


def run(arguments: Namespace) -> int:
    """Import the weights and print what was written."""
    from dbp.exchange import import_weights

    line = import_weights(
        Path(arguments.weights),
        Path(arguments.config),
        Path(arguments.out),
        arguments.set,
        arguments.origin,
        arguments.rename,
        arguments.input,
        overwrite=arguments.overwrite,
        channels=arguments.channels,
        partial=arguments.partial,
    )
    print_output(line, wrapped=True)
    return 0

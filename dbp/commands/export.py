"""dbp export: write the weights or the model of a checkpoint for other programs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_code, add_input_shape, add_names_of_pytorch, add_overwrite, add_trained
from dbp.terminal import print_output

HELP = "write a checkpoint's weights or model for other programs"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_trained(parser)
    parser.add_argument("out", metavar="OUT", help="ends in .safetensors, .npz or .pt (weights) or .onnx (model)")
    add_overwrite(parser, "OUT")
    add_input_shape(parser, "for .onnx and --to pytorch: ")
    parser.add_argument(
        "--scale", type=float, metavar="S", help="for .onnx: scale of the inputs (default: that of the training data)"
    )
    parser.add_argument(
        "--to",
        default="dbp",
        metavar="FORM",
        help="pytorch for the names and axes of a state_dict (default: dbp)",
    )
    add_names_of_pytorch(parser)
    add_code(parser)


def run(arguments: Namespace) -> int:
    """Export the checkpoint and print what was written."""
    from dbp.exchange import export

    checkpoint, out = Path(arguments.checkpoint), Path(arguments.out)
    options = arguments.to, arguments.rename, arguments.channels, arguments.code
    line = export(checkpoint, out, arguments.overwrite, arguments.input, arguments.scale, arguments.last, *options)
    print_output(line, wrapped=True)
    return 0

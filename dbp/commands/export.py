"""dbp export: write the weights or the model of a checkpoint for other programs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_input_shape, add_overwrite, add_trained
from dbp.terminal import print_output

HELP = "write a checkpoint's weights or model for other programs"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_trained(parser)
    parser.add_argument("out", metavar="OUT", help="ends in .safetensors or .npz (weights) or .onnx (model)")
    add_overwrite(parser, "OUT")
    add_input_shape(parser, "for .onnx: ")
    parser.add_argument(
        "--scale", type=float, metavar="S", help="for .onnx: scale of the inputs (default: that of the training data)"
    )


def run(arguments: Namespace) -> int:
    """Export the checkpoint and print what was written."""
    from dbp.exchange import export

    checkpoint, out = Path(arguments.checkpoint), Path(arguments.out)
    line = export(checkpoint, out, arguments.overwrite, arguments.input, arguments.scale, arguments.last)
    print_output(line)
    return 0

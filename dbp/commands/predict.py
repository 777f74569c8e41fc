"""dbp predict: write a checkpoint's predictions for a data set to an HDF5 file."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_checkpoint, add_hdf5_output

HELP = "write the predictions of a checkpoint for a data set"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    parser.add_argument("data", metavar="DATA", help="an HDF5 file with inputs")
    add_hdf5_output(parser)


def run(arguments: Namespace) -> int:
    """Predict on all ranks; collective."""
    from dbp.trained.inference import predict, with_checkpoint

    out, overwrite = Path(arguments.out), arguments.overwrite
    return with_checkpoint(
        arguments.checkpoint,
        lambda settings, checkpoint, comm: predict(settings, checkpoint, arguments.data, out, overwrite, comm),
    )

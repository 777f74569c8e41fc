"""dbp predict: write a checkpoint's predictions for a data set to an HDF5 or CSV file."""

from __future__ import annotations

from argparse import Namespace

from dbp.commands.parser import (
    Parser,
    add_code,
    add_data,
    add_hdf5_or_csv_output,
    add_trained,
    data_of,
    output_of,
    trained_of,
)

HELP = "write the predictions of a checkpoint for a data set"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_trained(parser)
    add_code(parser)
    add_data(parser, "an HDF5 file with inputs")
    add_hdf5_or_csv_output(parser)
    parser.add_argument(
        "--not-finite",
        choices=("refuse", "mark"),
        default="refuse",
        help="what to do with rows whose inputs or outputs are infinite or not a number: refuse the data, or mark them "
        "with class -1 and outputs NaN (default: refuse)",
    )


def run(arguments: Namespace) -> int:
    """Predict on all ranks; collective."""
    from dbp.trained.inference import predict, with_checkpoint

    data, not_finite = data_of(arguments), arguments.not_finite
    return with_checkpoint(
        trained_of(arguments),
        lambda settings, checkpoint, comm: predict(
            settings, checkpoint, data, output_of(arguments, comm, takes_csv=True), comm, not_finite
        ),
    )

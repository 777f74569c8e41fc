"""dbp neurons: print how much each neuron of a checkpoint contributes to the error on a data set."""

from __future__ import annotations

from argparse import Namespace

from dbp.commands.parser import Parser, add_code, add_data, add_overwrite, add_trained, data_of, output_of, trained_of
from dbp.errors import UsageError

HELP = "print how much each neuron contributes to the error"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_trained(parser)
    add_code(parser)
    add_data(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="units to show of each layer (default: 5)")
    parser.add_argument("--out", metavar="FILE.h5", help="write the figures of all units to an HDF5 file")
    add_overwrite(parser, "FILE.h5")
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="LAYER/PARAMETER[INDEX]=NUMBER",
        help="show instead how the cost changes when this weight changes by +0.01 or -0.01, or becomes 0.5; may be "
        "given several times, for one change of several weights",
    )


def run(arguments: Namespace) -> int:
    """Print the figures of neurons, or the effect of a change of weights; collective."""
    from dbp.insight.report import neurons_text, what_if_text
    from dbp.trained.inference import with_checkpoint

    data, changes, top = data_of(arguments), arguments.what_if, arguments.top
    if changes and arguments.out:
        raise UsageError("--out is for the figures of neurons and does not go with --what-if")
    if top < 1:
        raise UsageError(f"--top must be at least 1, but is {top}")
    if changes:
        return with_checkpoint(
            trained_of(arguments),
            lambda settings, checkpoint, comm: what_if_text(settings, checkpoint, data, changes, comm),
        )
    return with_checkpoint(
        trained_of(arguments),
        lambda settings, checkpoint, comm: neurons_text(
            settings, checkpoint, data, comm, top, output_of(arguments, comm) if arguments.out else None
        ),
    )

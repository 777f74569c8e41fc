"""dbp eval: print the cost and the metrics of a checkpoint on a data set."""

from __future__ import annotations

from argparse import Namespace

from dbp.commands.parser import Parser, add_code, add_data, add_trained, data_of, trained_of

HELP = "print the cost and metrics of a checkpoint on a data set"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_trained(parser)
    add_code(parser)
    add_data(parser)
    parser.add_argument(
        "--report", action="store_true", help="also print a table of each class or output, and the confusion matrix"
    )


def run(arguments: Namespace) -> int:
    """Evaluate the checkpoint on all ranks; collective."""
    from dbp.trained.inference import evaluate, with_checkpoint

    return with_checkpoint(
        trained_of(arguments),
        lambda settings, checkpoint, comm: evaluate(settings, checkpoint, data_of(arguments), comm, arguments.report),
    )

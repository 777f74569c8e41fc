"""The parser of the command line, and the arguments that several commands share."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from dbp.errors import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, which all ranks report as one line, where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_config(parser: Parser) -> None:
    """Add a config file and changes of its keys."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file; see examples/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")


def add_restart(parser: Parser) -> None:
    """Add what a start may do with an earlier run in its folder."""
    parser.add_argument("--out", metavar="FOLDER", help="folder of the run's files (default: the config's)")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="KEY", help="resume although this key has changed"
    )
    parser.add_argument("--retry", action="store_true", help="resume although earlier starts made no progress")


def add_checkpoint(parser: Parser) -> None:
    """Add the checkpoint to read."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for its newest one")


def add_data(parser: Parser) -> None:
    """Add the data set on which a checkpoint is evaluated."""
    parser.add_argument("data", metavar="DATA", help="an HDF5 file with inputs and targets")


def add_hdf5_output(parser: Parser) -> None:
    """Add the HDF5 file to write."""
    parser.add_argument("out", metavar="OUT.h5", help="the HDF5 file to write")
    add_overwrite(parser, "OUT.h5")


def add_overwrite(parser: Parser, file: str) -> None:
    """Add the permission to replace a file that exists."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {file} if it exists")


def add_input_shape(parser: Parser, use: str = "") -> None:
    """Add the shape of an example.

    Args:
        parser: that of the command.
        use: what the shape is for, where the command does not always need it.
    """
    parser.add_argument(
        "--input",
        type=parse_shape,
        metavar="SHAPE",
        help=f"{use}shape of an example, such as 28,28,1 (default: as in the data)",
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text such as 28,28,1 describes.

    Raises:
        UsageError: the text describes no shape.
    """
    words = text.replace("(", "").replace(")", "").strip(", ").split(",")
    if not all(word.strip().isdigit() for word in words) or math.prod(int(word) for word in words) < 1:
        raise UsageError(f"--input takes the shape of one example, such as 28,28,1, but is {text!r}")
    return tuple(int(word) for word in words)

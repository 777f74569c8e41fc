"""dbp convert: make an HDF5 data file from IDX files, a table or a NumPy archive."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_hdf5_output
from dbp.errors import UsageError
from dbp.terminal import print_output

HELP = "make an HDF5 data file from IDX, CSV or NumPy files"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    formats = parser.add_subparsers(metavar="FORMAT", required=True, dest="format")

    idx = formats.add_parser("idx", help="a pair of IDX files, plain or gzip, such as those of MNIST")
    idx.add_argument("files", nargs=2, metavar=("IMAGES", "LABELS"))
    add_hdf5_output(idx)

    csv = formats.add_parser("csv", help="a table with one column of targets")
    csv.add_argument("files", nargs=1, metavar="TABLE")
    add_hdf5_output(csv)
    csv.add_argument(
        "--target", action="append", metavar="COLUMN", help="name or number of the targets' column (default: the last)"
    )
    csv.add_argument(
        "--classes",
        metavar="NAMES",
        help="the classes in the order of their numbers, such as ant,bee (default: all words, sorted)",
    )
    csv.add_argument("--delimiter", default=",", metavar="CHARACTER", help="between values (default: a comma)")

    npz = formats.add_parser("npz", help="a NumPy archive of arrays")
    npz.add_argument("files", nargs=1, metavar="ARCHIVE")
    add_hdf5_output(npz)
    npz.add_argument("--inputs", default="inputs", metavar="NAME", help="the array of inputs (default: inputs)")
    npz.add_argument("--targets", default="targets", metavar="NAME", help="the array of targets (default: targets)")
    npz.add_argument("--weights", metavar="NAME", help="the array of weights (default: no weights)")


def run(arguments: Namespace) -> int:
    """Convert the files and print what the data file holds."""
    from dbp.data import convert

    files = [Path(name) for name in arguments.files]
    if arguments.format == "idx":
        data = convert.from_idx(*files)
    elif arguments.format == "npz":
        data = convert.from_npz(files[0], arguments.inputs, arguments.targets, arguments.weights)
    else:
        target, *others = arguments.target or [None]
        if others:
            raise UsageError(f"--target takes one column, but was given for {target} and {', '.join(others)}")
        classes = None if arguments.classes is None else convert.parse_classes(arguments.classes)
        data = convert.from_csv(files[0], target, arguments.delimiter, classes)
    source = f"converted from {arguments.format}: {', '.join(arguments.files)}"
    count = convert.write_hdf5(Path(arguments.out), data, files, source, arguments.overwrite)
    shapes = ", ".join(
        f"{name} {column.dtype} {' x '.join(map(str, column.shape))}" for name, column in data.columns.items()
    )
    print_output(f"{arguments.out}: {count:,} examples ({shapes})")
    return 0

"""dbp convert: make an HDF5 data file from IDX files, a table or a NumPy archive."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp.commands.parser import Parser, add_hdf5_output
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
    csv.add_argument("--target", metavar="COLUMN", help="name or number of the targets' column (default: the last)")
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

    attributes: dict[str, object] = {"source": f"converted from {arguments.format}: {', '.join(arguments.files)}"}
    files = [Path(name) for name in arguments.files]
    if arguments.format == "idx":
        columns = convert.from_idx(*files)
    elif arguments.format == "npz":
        columns = convert.from_npz(files[0], arguments.inputs, arguments.targets, arguments.weights)
    else:
        columns, classes = convert.from_csv(files[0], arguments.target, arguments.delimiter)
        if classes:
            attributes["classes"] = classes
    count = convert.write_hdf5(Path(arguments.out), columns, attributes, arguments.overwrite)
    shapes = ", ".join(
        f"{name} {column.dtype} {' x '.join(map(str, column.shape))}"
        for name, column in columns.items()
        if column is not None
    )
    print_output(f"{arguments.out}: {count:,} examples ({shapes})")
    return 0

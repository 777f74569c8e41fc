"""dbp convert: make an HDF5 data file from files of other formats."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbp.commands.parser import Parser, add_hdf5_output
from dbp.errors import UsageError
from dbp.files import must_be_free, writing_to
from dbp.terminal import print_output
from dbp.text import count_text, is_digits

if TYPE_CHECKING:
    from dbp.convert.content import Content
    from dbp.convert.roles import TableOptions
    from dbp.convert.writing import Chunks

HELP = "make an HDF5 data file from files of other formats"
ON_RANKS = False


class Format(NamedTuple):
    """A format of files.

    Args:
        help: its line of help.
        files: what `dbp convert NAME --help` calls each file, in their order.
        add: adds the arguments of the format.
        content: returns the data set in files.
        several: whether it takes any number of files.
    """

    help: str
    files: tuple[str, ...]
    add: Callable[[Parser], None]
    content: Callable[[Namespace, list[Path]], Content]
    several: bool = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    formats = parser.add_subparsers(metavar="FORMAT", required=True, dest="format")
    for name, row in FORMATS.items():
        found = formats.add_parser(name, help=row.help)
        if row.several:
            found.add_argument("files", nargs="+", metavar=row.files[0])
        else:
            for file in row.files:  # one by one, as argparse cannot show several names of one argument
                found.add_argument("files", action="append", metavar=file)
        add_hdf5_output(found)
        row.add(found)


def run(arguments: Namespace) -> int:
    """Convert the files, and print what the data file holds."""
    from dbp.convert.writing import write_hdf5

    files, out = [Path(name) for name in arguments.files], Path(arguments.out)
    chunks = _chunks(arguments) if arguments.format == "hdf5" else None
    must_be_free(out, arguments.overwrite)  # before anything is read, which may take long
    with writing_to(out):
        out.parent.stat()
    content = FORMATS[arguments.format].content(arguments, files)
    source = f"converted from {arguments.format}: {', '.join(arguments.files)}"
    columns = write_hdf5(out, content, source, arguments.overwrite, chunks)
    count = next(iter(columns.values())).shape[0]
    shapes = ", ".join(f"{name} {shape}" for name, shape in columns.items())
    print_output(f"{arguments.out}: {count_text(count, 'example')} ({shapes})", wrapped=True)
    for note in content.notes:
        print_output(f"  {note}", wrapped=True)
    return 0


# --- tables -------------------------------------------------------------------------------------------


def _add_table(parser: Parser) -> None:
    parser.add_argument(
        "--target",
        action="append",
        metavar="COLUMN",
        help="name or number of the targets' column (default: the last); give it once for each of several",
    )
    parser.add_argument("--no-target", action="store_true", help="there are no targets, as in data to predict")
    parser.add_argument("--weights", metavar="COLUMN", help="the column of example weights")
    parser.add_argument("--id", metavar="COLUMN", help="the column of the examples' names, which predictions repeat")
    _add_keep(parser)
    parser.add_argument("--columns", metavar="COLUMNS", help="the inputs, such as age,size (default: all others)")
    parser.add_argument("--drop", metavar="COLUMNS", help="columns to leave out, such as id,name")
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="the classes in the order of their numbers, such as ant,bee (default: all words, sorted)",
    )
    parser.add_argument(
        "--missing",
        metavar="RULE",
        help="what stands for missing inputs: error, drop (leave out the row), mean, median or a number "
        "(default: error, or that of --like)",
    )
    parser.add_argument(
        "--missing-text",
        action="append",
        default=[],
        metavar="TEXT",
        help="what says that a value is missing, besides an empty cell, NA, N/A, NaN, null and ?",
    )
    parser.add_argument("--words", metavar="COLUMNS", help="columns of words, though they have numbers or many words")
    parser.add_argument(
        "--order",
        action="append",
        default=[],
        metavar="COLUMN=WORDS",
        help="words that have an order, such as size=small,medium,large, become one column of 0, 1, 2",
    )
    parser.add_argument(
        "--like", metavar="DATA.h5", help="the same columns, coding and classes as in a file that was converted before"
    )


def _add_keep(parser: Parser) -> None:
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that is no input, but a data set of its own name, such as groups; give it once for each",
    )


def _add_csv(parser: Parser) -> None:
    _add_table(parser)
    parser.add_argument(
        "--date",
        action="append",
        default=[],
        metavar="COLUMN=FORMAT",
        help="how dates are written, such as day=%%m/%%d/%%Y (default: 2019-03-01, with a time or not, or 1.3.2019)",
    )
    parser.add_argument("--delimiter", metavar="CHARACTER", help="between values (default: found by itself)")
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of its texts (default: utf-8)")
    parser.add_argument("--header", choices=("yes", "no"), help="whether the first line has names (default: found)")
    parser.add_argument("--decimal", default=".", choices=(".", ","), help="before decimals (default: a point)")


def _table_options(arguments: Namespace) -> TableOptions:
    from dbp.convert.like import read_coding
    from dbp.convert.options import missing_rule, names_in, pair_in
    from dbp.convert.roles import LAST, TableOptions

    if arguments.no_target and arguments.target:
        raise UsageError("--no-target says that there are no targets, but --target names some; give one of them")
    if arguments.like is not None:
        stated = ("target", "weights", "columns", "drop", "classes", "words", "order")
        if given := [name for name in stated if getattr(arguments, name)]:
            raise UsageError(f"--{given[0]} is taken from {arguments.like}; leave it out, or leave out --like")
        if arguments.missing == "median":
            raise UsageError(
                f"medians are not taken anew with --like; leave --missing out for the rule of {arguments.like}, or "
                "say mean, drop or a number"
            )
    return TableOptions(
        targets=() if arguments.no_target else tuple(arguments.target or (LAST,)),
        columns=None if arguments.columns is None else names_in("--columns", arguments.columns),
        drop=names_in("--drop", arguments.drop),
        weights=arguments.weights,
        ids=arguments.id,
        keep=arguments.keep,
        words=names_in("--words", arguments.words),
        orders={name: names_in("--order", words) for name, words in (pair_in("--order", o) for o in arguments.order)},
        dates=dict(pair_in("--date", text) for text in getattr(arguments, "date", ())),
        classes=names_in("--classes", arguments.classes) or None,
        missing=missing_rule(arguments.missing),
        missing_texts=arguments.missing_text,
        like=None if arguments.like is None else read_coding(arguments.like),
        like_name=arguments.like or "",
    )


def _csv(arguments: Namespace, files: list[Path]) -> Content:
    from dbp.convert.csv_table import TextFormat, from_csv

    header = {"yes": True, "no": False, None: None}[arguments.header]
    text = TextFormat(arguments.delimiter, header, arguments.decimal, arguments.encoding)
    return from_csv(files[0], _table_options(arguments), text)


def _parquet(arguments: Namespace, files: list[Path]) -> Content:
    from dbp.convert.parquet import from_parquet

    return from_parquet(files[0], _table_options(arguments))


# --- arrays -------------------------------------------------------------------------------------------


def _add_nothing(parser: Parser) -> None:
    """Add no arguments."""


def _idx(arguments: Namespace, files: list[Path]) -> Content:  # noqa: ARG001  # as all formats
    from dbp.convert.idx import from_idx

    return from_idx(*files)


def _add_names(parser: Parser) -> None:
    parser.add_argument("--inputs", default="inputs", metavar="NAME", help="the array of inputs (default: inputs)")
    parser.add_argument("--targets", metavar="NAME", help="that of targets (default: targets, if there are any)")
    parser.add_argument("--weights", metavar="NAME", help="that of weights (default: weights, if there are any)")
    parser.add_argument("--mask", metavar="NAME", help="that of masks (default: mask, if there is one)")


def _npz(arguments: Namespace, files: list[Path]) -> Content:
    from dbp.convert.npz import from_npz
    from dbp.data import ColumnNames

    return from_npz(files[0], ColumnNames(arguments.inputs, arguments.targets, arguments.weights, arguments.mask))


def _add_hdf5(parser: Parser) -> None:
    _add_names(parser)
    _add_keep(parser)
    parser.add_argument(
        "--chunks", metavar="ROWS", help="cut columns into chunks of so many rows, or auto (default: one piece)"
    )
    parser.add_argument("--compress", action="store_true", help="pack the chunks with gzip, after a shuffle of bytes")


def _chunks(arguments: Namespace) -> Chunks | None:
    from dbp.convert.writing import GZIP_LEVEL, Chunks

    rows = arguments.chunks
    if rows is None and not arguments.compress:
        return None
    if rows not in (None, "auto") and (not is_digits(rows) or int(rows) < 1):
        raise UsageError(f"--chunks takes a number of rows, at least 1, or auto, but is {rows!r}")
    return Chunks(None if rows in (None, "auto") else int(rows), GZIP_LEVEL if arguments.compress else 0)


def _hdf5(arguments: Namespace, files: list[Path]) -> Content:
    from dbp.convert.hdf5 import from_hdf5
    from dbp.data import ColumnNames

    columns = ColumnNames(arguments.inputs, arguments.targets, arguments.weights, arguments.mask)
    return from_hdf5([str(file) for file in files], columns, arguments.keep)


def _add_images(parser: Parser) -> None:
    parser.add_argument(
        "--size", metavar="WIDTHxHEIGHT", help="scale images to this size and cut off what juts out, such as 32x32"
    )
    parser.add_argument("--grayscale", action="store_true", help="make one channel of colors")
    parser.add_argument("--like", metavar="DATA.h5", help="size and channels of images that were converted before")


def _images(arguments: Namespace, files: list[Path]) -> Content:
    from dbp.convert.images import ImageOptions, from_images
    from dbp.convert.options import size_in

    if arguments.like is not None and (arguments.size or arguments.grayscale):
        raise UsageError(
            f"size and channels are those of {arguments.like}; leave out --size and --grayscale, or --like"
        )
    size = None if arguments.size is None else size_in(arguments.size)
    return from_images(files[0], ImageOptions(size, arguments.grayscale, arguments.like))


FORMATS = {
    "images": Format("a folder of images, with a folder for each class", ("FOLDER",), _add_images, _images),
    "hdf5": Format("HDF5 files or groups in them, in one piece or in chunks", ("DATA",), _add_hdf5, _hdf5, True),
    "csv": Format("a table of text, plain or gzip", ("TABLE",), _add_csv, _csv),
    "parquet": Format("a Parquet file, as a table", ("TABLE",), _add_table, _parquet),
    "npz": Format("a NumPy archive of arrays", ("ARCHIVE",), _add_names, _npz),
    "idx": Format("a pair of IDX files, plain or gzip, as of MNIST", ("IMAGES", "LABELS"), _add_nothing, _idx),
}

"""dbp new: make a folder with a config that trains on your data, converted if need be, or on the digits."""

from __future__ import annotations

import contextlib
import os
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbp.commands.parser import Parser
from dbp.errors import UsageError, UserError
from dbp.files import reading_from, write_file, writing_to
from dbp.terminal import print_output

if TYPE_CHECKING:
    from dbp.data import ColumnNames, FileDataset

HELP = "make a folder with a config that trains on your data"
ON_RANKS = False
DIGITS, DIGITS_TEST = "dbp:digits-train", "dbp:digits-test"
AS_THEY_ARE = (".h5", ".hdf5", ".nc", ".mat", ".npz")  # files that a run reads without a conversion
PARQUET = ".parquet"
TABLE_OPTIONS, IMAGE_OPTIONS = ("target", "classes", "id", "drop"), ("size",)
NAMES = ("inputs", "targets")


class Plan(NamedTuple):
    """How data becomes training data.

    Args:
        train: the training data, as a config in the new folder names it.
        convert: the words of `dbp convert` by which it is made; none if it is there.
        later: those that convert data to predict likewise.
        target_by_default: whether the last column of a table is the target, as the user has named none.
    """

    train: str
    convert: Sequence[str] = ()
    later: Sequence[str] = ()
    target_by_default: bool = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="the folder to make, such as wine")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DATA",
        help="a table (CSV, Parquet), a folder of images, or a data file (.h5, .nc, .mat, .npz); "
        "default: images of handwritten digits that come with dbp",
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="COLUMN",
        help="of a table: what is to be predicted (default: the last column); give it once for each of several",
    )
    parser.add_argument(
        "--classes", metavar="NAMES", help="of a table: the classes, if they are numbers, such as 1,2,3"
    )
    parser.add_argument("--id", metavar="COLUMN", help="of a table: the examples' names, which predictions repeat")
    parser.add_argument("--drop", metavar="COLUMNS", help="of a table: columns to leave out, such as phone,street")
    parser.add_argument("--size", metavar="WIDTHxHEIGHT", help="of images: the size that all are scaled to, as 32x32")
    parser.add_argument("--inputs", metavar="NAME", help="of a data file: its inputs (default: inputs)")
    parser.add_argument("--targets", metavar="NAME", help="of a data file: its targets (default: targets)")


def run(arguments: Namespace) -> int:
    """Make the folder, and print what it holds and what to do with it."""
    folder = Path(arguments.folder)
    for name in (str(folder), arguments.source or ""):
        if not name.isprintable():
            raise UsageError(f"{name!r} has characters that a config cannot show; rename it")
    plan = _plan(arguments, folder)
    with _new_folder(folder):
        if plan.convert:
            print_output(f"dbp convert {shlex.join(plan.convert)}")
            _convert(plan.convert)
        _write_config(folder, arguments, plan)
    return 0


# --- the data -----------------------------------------------------------------------------------------


def _plan(arguments: Namespace, folder: Path) -> Plan:
    """Return how the data becomes training data; raise UsageError for options that it does not have."""
    if arguments.source is None:
        _check_options(arguments, (), "the digits")
        return Plan(DIGITS)
    file, colon, group = arguments.source.partition(":/")
    source, out = Path(file), f"{_name_of(folder)}.h5"
    if not source.exists():
        raise UserError(f"--from {arguments.source} does not exist (looked for {source.absolute()})")
    if source.suffix.lower() in AS_THEY_ARE:
        _check_options(arguments, NAMES, "a data file")
        return Plan(os.path.relpath(source, folder) + colon + group)
    kind = "images" if source.is_dir() else "parquet" if source.suffix.lower() == PARQUET else "csv"
    allowed = IMAGE_OPTIONS if kind == "images" else TABLE_OPTIONS
    _check_options(arguments, allowed, "a folder of images" if kind == "images" else "a table")
    words = [kind, str(source), str(folder / out)]
    for option in allowed:
        given = getattr(arguments, option) or []
        words += [word for one in ([given] if isinstance(given, str) else given) for word in (f"--{option}", one)]
    later = [kind, f"NEW{source.suffix}", "new.h5", "--like", str(folder / out)]
    if kind == "images":
        return Plan(out, words, later)
    return Plan(out, [*words, "--missing", "mean"], [*later, "--no-target"], arguments.target is None)


def _check_options(arguments: Namespace, allowed: Sequence[str], what: str) -> None:
    for option in (*TABLE_OPTIONS, *IMAGE_OPTIONS, *NAMES):
        if option not in allowed and getattr(arguments, option) is not None:
            raise UsageError(f"--{option} has no meaning for {what}; leave it out")


def _convert(words: Sequence[str]) -> None:
    """Run `dbp convert` with some words."""
    from dbp.commands import convert

    parser = Parser(prog="dbp convert")
    convert.add(parser)
    convert.run(parser.parse_args(words))


def _name_of(folder: Path) -> str:
    """Return the name of the files in a folder, which is its own, for "." too."""
    return folder.resolve().name or "new"


# --- the folder ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make a folder, which is removed again if what is done meanwhile fails.

    Raises:
        UserError: there is something of this name already.
        StorageError: it cannot be made.
    """
    with reading_from(folder):
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not an empty folder; choose another name")
        is_new = not folder.exists()
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            (folder / f"{_name_of(folder)}.h5").unlink(missing_ok=True)
            if is_new:
                folder.rmdir()
        raise


def _write_config(folder: Path, arguments: Namespace, plan: Plan) -> None:
    from dbp.data import ColumnNames
    from dbp.starter import config_text, summary_of

    names = [(name, given) for name in NAMES if (given := getattr(arguments, name)) is not None]
    data = plan.train if plan.train == DIGITS else str(folder / plan.train) if plan.convert else arguments.source
    summary = summary_of(_opened(data, ColumnNames()._replace(**dict(names))))
    path = folder / f"{_name_of(folder)}.toml"
    test = DIGITS_TEST if plan.train == DIGITS else ""
    text = config_text(shlex.quote(str(path)), plan.train, summary, names, test)
    write_file(path, text.encode(), replaces=False)
    print_output(f"{path}: {summary}", wrapped=True)
    if plan.target_by_default:
        print_output(
            f"the target is column {_target_of(data)!r}, the last; for another, begin anew with --target COLUMN",
            wrapped=True,
        )
    if plan.convert and summary.few_values:
        values = ",".join(map(str, summary.few_values))
        print_output(f"note: if these numbers are classes, begin anew with --classes {values}", wrapped=True)
    lines = [("train:", ["train", str(path)])]
    if plan.later:
        lines.append(("predict:", ["convert", *plan.later]))
    data = "new.h5" if plan.later else test or "NEW.h5"
    lines.append(("" if plan.later else "predict:", ["predict", str(folder / "run"), data, "predictions.csv"]))
    for head, words in lines:
        print_output(f"{head:10}dbp {shlex.join(words)}")


def _target_of(data: str) -> str:
    """Return the name of the target's column in a table that was converted."""
    from dbp.convert.like import read_coding

    return read_coding(data).columns["targets"][0].label


def _opened(data: str, names: ColumnNames) -> FileDataset:
    """Return the training data of this name; raise UserError, which says how other columns are named."""
    from dbp.data import FileSource

    try:
        return FileSource([data], names).open()
    except UserError as error:
        raise type(error)(f"{error} (of dbp new: --inputs NAME and --targets NAME)") from None

"""The parser of the command line, and the arguments that several commands share."""

from __future__ import annotations

import argparse
import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dbp.errors import UsageError
from dbp.text import is_digits

if TYPE_CHECKING:
    from dbp.data import OutputFile
    from dbp.parallel import Communicator
    from dbp.trained.evaluator import DataFile
    from dbp.trained.inference import ModelFile


CSV, HDF5 = ".csv", (".h5", ".hdf5", ".he5")  # the endings of tables and of HDF5 files


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, which all ranks report as one line, where argparse would exit.

    It may pass the words after "--" on as they are, under the name in `passed_on`.
    """

    passed_on = ""

    def parse_known_args(  # type: ignore[override]  # its overloads are those of the base class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the words before "--", and keep the others."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if self.passed_on and "--" in words else len(words)
        found, unknown = super().parse_known_args(words[:end] if self.passed_on else words, namespace)
        if self.passed_on:
            setattr(found, self.passed_on, words[end + 1 :])
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_config(parser: Parser, what: str = "a TOML file; see examples/") -> None:
    """Add a config file, or what else may be in its place, and changes of its keys."""
    parser.add_argument("config", metavar="CONFIG", help=what)
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


def add_trained(parser: Parser) -> None:
    """Add the trained model to use."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for its best epoch, else its last"
    )
    parser.add_argument("--last", action="store_true", help="of a run's folder, take the last weights, not the best")


def add_code(parser: Parser) -> None:
    """Add the Python code of the user's that a trained model needs."""
    parser.add_argument(
        "--code", metavar="FILE.py", help="import layers, losses and metrics of your own that the run's config names"
    )


def trained_of(arguments: Namespace) -> ModelFile:
    """Return the trained model that a command uses."""
    from dbp.trained.inference import ModelFile

    return ModelFile(arguments.checkpoint, arguments.last, arguments.code)


def add_runs(parser: Parser) -> None:
    """Add the folders of one run or several."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder; several are compared")


def add_data(parser: Parser, content: str = "an HDF5 file with inputs and targets") -> None:
    """Add the data set on which a checkpoint is used."""
    parser.add_argument("data", metavar="DATA", help=content)
    add_data_names(parser)


def add_data_names(parser: Parser) -> None:
    """Add what a data set calls its columns, and the scale of its inputs."""
    parser.add_argument(
        "--scale", type=parse_scale, metavar="S", help="factor on its inputs (default: the config's, or their own)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=NAME",
        help="name of a column in DATA, such as data.inputs=x (default: that of the config)",
    )


def data_of(arguments: Namespace) -> DataFile:
    """Return the data set on which a checkpoint is used."""
    from dbp.trained.evaluator import DataFile

    return DataFile(arguments.data, arguments.scale, dict(map(_column_name, arguments.set)))


def _column_name(change: str) -> tuple[str, Any]:
    """Return the setting and the name of a column, or of several, from a text such as data.inputs=x."""
    import tomllib

    from dbp.config.data import NAMES, SEVERAL, names_of

    key, equals, name = (word.strip() for word in change.partition("="))
    setting = key.removeprefix("data.")
    if setting not in NAMES or not key.startswith("data.") or not equals or not name:
        known = ", ".join(f"data.{known}=NAME" for known in NAMES)
        raise UsageError(f"--set takes the name of a column ({known}), but got {change!r}")
    if not name.startswith("{") and (not name.startswith("[") or setting not in SEVERAL):
        return setting, name.strip("\"'")
    try:
        return setting, names_of(key, setting, tomllib.loads(f"names = {name}")["names"])
    except tomllib.TOMLDecodeError:
        raise UsageError(
            f'--set takes names such as {key}=["age", "size"] or {key}={{image = "img"}}, but got {change!r}'
        ) from None


def add_hdf5_output(parser: Parser) -> None:
    """Add the HDF5 file to write."""
    parser.add_argument("out", metavar="OUT.h5", help="the HDF5 file to write")
    add_overwrite(parser, "OUT.h5")


def add_hdf5_or_csv_output(parser: Parser) -> None:
    """Add the HDF5 or CSV file to write."""
    parser.add_argument("out", metavar="OUT", help="the file to write: a table if it ends in .csv, HDF5 if in .h5")
    add_overwrite(parser, "OUT")


def output_of(arguments: Namespace, comm: Communicator, takes_csv: bool = False) -> OutputFile:
    """Return the file that a command on a checkpoint and data writes, which must be none of those it reads.

    Collective: rank 0, which writes, looks for all, as other nodes may not see the checkpoint's folder.

    Args:
        arguments: of the command.
        comm: the ranks.
        takes_csv: whether a name that ends in .csv is that of a table rather than of an HDF5 file.

    Raises:
        UsageError: the name is that of a file of neither kind, or stands for standard output.
    """
    if arguments.out == "-":
        raise UsageError(f"OUT is -, but results go to a file; name one, such as out{CSV if takes_csv else HDF5[0]}")
    out = Path(arguments.out)
    if takes_csv and out.suffix and out.suffix.lower() not in (CSV, *HDF5):
        raise UsageError(
            f"{out}: predictions are written as a table that ends in {CSV}, or as HDF5, {', '.join(HDF5)}, but not as "
            f"{out.suffix}; name {out.with_suffix(CSV).name} or {out.with_suffix(HDF5[0]).name}"
        )
    from dbp.checkpoint import files_of
    from dbp.data import CsvFile, FileSource, OutputFile
    from dbp.parallel import from_rank_0

    read = from_rank_0(comm, lambda: (*FileSource([arguments.data]).paths(), *files_of(Path(arguments.checkpoint))))
    kind = CsvFile if takes_csv and out.suffix.lower() == CSV else OutputFile
    return kind(out, arguments.overwrite, read)


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
        action=_Shapes,
        metavar="SHAPE",
        help=f"{use}shape of an example, such as 28,28,1; of several inputs each with its name, as in "
        "--input image=28,28,1 --input meta=3 (default: as in the data)",
    )


def add_names_of_pytorch(parser: Parser) -> None:
    """Add how names and axes of PyTorch differ from those of dbp."""
    parser.add_argument(
        "--channels",
        metavar="WHERE",
        help="first or last: where PyTorch has the channels when it flattens, if the layers do not tell",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a weight, or the leading parts of names; * stands for a part, or a piece of one",
    )


class _Shapes(argparse.Action):
    """The shape of an example, or the shapes of several inputs by name, each given by an option of its own."""

    def __call__(self, parser: Any, namespace: Namespace, values: Any, option_string: str | None = None) -> None:  # noqa: ARG002
        """Add a shape."""
        name, equals, text = str(values).rpartition("=")
        shape, known = parse_shape(text), getattr(namespace, self.dest)
        if known is not None and not (isinstance(known, dict) and equals and name not in known):
            raise UsageError(
                "--input is given twice; with several inputs each has its name, as in --input image=28,28,1 --input "
                "meta=3"
            )
        setattr(namespace, self.dest, {**(known or {}), name: shape} if equals else shape)


def parse_scale(text: str) -> float:
    """Return the factor on inputs that a text gives; raise UsageError unless it is a finite number other than 0."""
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not math.isfinite(scale) or not scale:
        raise UsageError(f"--scale takes a number other than 0, but is {text!r}")
    return scale


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text such as 28,28,1 describes.

    Raises:
        UsageError: the text describes no shape.
    """
    words = text.replace("(", "").replace(")", "").strip(", ").split(",")
    if not all(is_digits(word.strip()) for word in words) or math.prod(int(word) for word in words) < 1:
        raise UsageError(f"--input takes the shape of one example, such as 28,28,1, but is {text!r}")
    return tuple(int(word) for word in words)

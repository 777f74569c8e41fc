"""The words of the command line; see docs/running.md."""

from __future__ import annotations

import argparse
from typing import NoReturn

from dbp.errors import UsageError
from dbp.version import VERSION


class _Parser(argparse.ArgumentParser):
    """Raises what it finds wrong, to be told as any mistake is: in one line, once for all ranks."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def command_line() -> argparse.ArgumentParser:
    """What reads a command line; its `command` is the command's name."""
    parser = _Parser(
        prog="dbp",
        description="Train neural networks by data parallelism over MPI, to the same bits on any number of ranks.",
    )
    parser.add_argument("--version", action="version", version=f"dbp {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    train = commands.add_parser("train", help="train as a config says, or go on with that training")
    train.add_argument("config", metavar="CONFIG", help="a TOML file; see examples/")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    train.add_argument("--out", metavar="FOLDER", help="where the run's files go")
    train.add_argument("--fresh", action="store_true", help="start anew; an earlier run is moved aside")
    train.add_argument("--overwrite", action="store_true", help="with --fresh: delete the earlier run instead")
    train.add_argument("--accept", action="append", default=[], metavar="KEY", help="go on though this key has changed")
    train.add_argument("--retry", action="store_true", help="go on though the run has ended early again and again")
    train.add_argument(
        "--time-limit", metavar="TIME", help="save and stop before: seconds, h:m:s, or auto in a batch job"
    )

    evaluate = commands.add_parser("eval", help="cost and metrics of a checkpoint on data")
    _add_checkpoint(evaluate)
    evaluate.add_argument("data", metavar="DATA", help="an HDF5 file with inputs and targets")

    predict = commands.add_parser("predict", help="write the outputs of a checkpoint's model for data")
    _add_checkpoint(predict)
    predict.add_argument("data", metavar="DATA", help="an HDF5 file with inputs")
    _add_out(predict)

    verify = commands.add_parser("verify", help="whether a checkpoint, or each of a run's, is whole")
    verify.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for all of its")

    inspect = commands.add_parser("inspect", help="what a checkpoint holds")
    _add_checkpoint(inspect)
    inspect.add_argument("--digest", action="store_true", help="print only a SHA-256 over all weights by name")

    _add_insight(commands)

    _add_convert(commands.add_parser("convert", help="make an HDF5 data file from another format"))

    _add_exchange(commands)

    _add_jobs(commands)

    _add_doctor(commands.add_parser("doctor", help="whether ranks can train here, how fast, and what to mend"))
    return parser


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", default="1", metavar="T", help="of a rank: a number, or auto (default: 1)")
    parser.add_argument("--out", default=".", metavar="FOLDER", help="where a run's files are to go (default: here)")
    parser.add_argument("--json", action="store_true", help="print what was found for programs")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for its newest")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT.h5", help="the HDF5 file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")


def _add_insight(commands: argparse._SubParsersAction[_Parser]) -> None:
    summary = commands.add_parser("summary", help="layers, shapes, parameters, work and memory of a config's model")
    summary.add_argument("config", metavar="CONFIG", help="a TOML file; see examples/")
    summary.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    summary.add_argument("--input", metavar="SHAPE", help="of one example, such as 28,28,1 (default: that of the data)")

    neurons = commands.add_parser("neurons", help="what each neuron of a checkpoint adds to the error on data")
    _add_checkpoint(neurons)
    neurons.add_argument("data", metavar="DATA", help="an HDF5 file with inputs and targets")
    neurons.add_argument("--top", type=int, default=5, metavar="N", help="units of each layer to show (default: 5)")
    neurons.add_argument("--out", metavar="FILE.h5", help="write the figures of all units to an HDF5 file")
    neurons.add_argument("--overwrite", action="store_true", help="replace FILE.h5 if it exists")
    neurons.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="LAYER/PARAMETER[INDEX]=NUMBER",
        help="instead show what the cost does if this weight changes by +0.01 or -0.01, or becomes 0.5; several "
        "make one change",
    )


def _add_jobs(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="start a command on several ranks: dbp run -n 4 -- train CONFIG",
        usage="dbp run -n N -- COMMAND ...",
    )
    run.add_argument("-n", dest="ranks", type=int, default=None, metavar="N", help="ranks (default: one a core)")
    run.add_argument("--threads", type=int, default=1, metavar="T", help="threads of a rank outside of training")
    run.add_argument("--survive", action="store_true", help="ranks of a training go on when others die (Open MPI 5)")
    run.add_argument("words", nargs="+", metavar="COMMAND", help="a dbp command, a Python script, or a program")

    job = commands.add_parser("submit", help="have a cluster's scheduler train as a config says, until it is finished")
    add = job.add_argument
    add("config", metavar="CONFIG", help="a TOML file; see examples/")
    add("--nodes", type=int, default=1, metavar="N", help="of the job (default: 1)")
    add("--ranks-per-node", type=int, default=1, metavar="R", help="ranks on each (default: 1)")
    add("--time", metavar="TIME", help="limit of each job: hours:minutes:seconds, or seconds")
    add("--threads", type=int, metavar="T", help="threads and cores of a rank (default: the config's)")
    add("--scheduler", metavar="NAME", help="slurm, pbs, lsf, flux, kubernetes or mpirun (default: which is found)")
    add("--out", metavar="FOLDER", help="where the run's files go")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    add("--accept", action="append", default=[], metavar="KEY", help="go on though this key has changed")
    add("--retry", action="store_true", help="go on though the run has ended early again and again")
    add("--name", metavar="NAME", help="of the job (default: dbp- and the config's)")
    add("--account", metavar="NAME", help="that the job is charged to")
    add("--queue", "--partition", metavar="NAME", help="of the scheduler")
    add("--most-jobs", type=int, default=20, metavar="N", help="that may follow one another (default: 20)")
    add("--image", metavar="NAME", help="of Kubernetes, with dbp and MPI")
    add("--claim", metavar="NAME", help="of Kubernetes, to a volume for all pods")
    add("--dry-run", action="store_true", help="print the script, and do nothing")

    status = commands.add_parser("status", help="where a run stands, also while it goes on")
    status.add_argument("run", metavar="RUN", help="a run's folder")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.add_argument("--quiet", action="store_true", help="print nothing; tell by the exit code: see docs/batch.md")
    status.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="so long at most for the run's end")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_subparsers(metavar="FORMAT", required=True, dest="format")

    idx = formats.add_parser("idx", help="a pair of IDX files, plain or gzip, such as those of MNIST")
    idx.add_argument("files", nargs=2, metavar=("IMAGES", "LABELS"))
    _add_out(idx)

    table = formats.add_parser("csv", help="a table with one column of targets")
    table.add_argument("files", nargs=1, metavar="TABLE")
    _add_out(table)
    table.add_argument("--target", metavar="COLUMN", help="name or number of the targets' column (default: the last)")
    table.add_argument("--delimiter", default=",", metavar="CHARACTER", help="between values (default: a comma)")

    archive = formats.add_parser("npz", help="a NumPy archive of arrays")
    archive.add_argument("files", nargs=1, metavar="ARCHIVE")
    _add_out(archive)
    archive.add_argument("--inputs", default="inputs", metavar="NAME", help="the array of inputs")
    archive.add_argument("--targets", default="targets", metavar="NAME", help="the array of targets")
    archive.add_argument("--weights", metavar="NAME", help="the array of weights, if any")


def _add_exchange(commands: argparse._SubParsersAction[_Parser]) -> None:
    export = commands.add_parser("export", help="write a checkpoint's weights, or its model, for other programs")
    _add_checkpoint(export)
    export.add_argument("out", metavar="OUT", help="ends in .safetensors or .npz (weights) or .onnx (model)")
    export.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    export.add_argument("--input", metavar="SHAPE", help="of one example, for .onnx (default: that of the data)")
    export.add_argument(
        "--scale", type=float, metavar="S", help="of the inputs, for .onnx (default: that of config or data)"
    )

    take = commands.add_parser("import", help="make a checkpoint of weights from elsewhere")
    take.add_argument("weights", metavar="WEIGHTS", help="a .safetensors or .npz file")
    take.add_argument("config", metavar="CONFIG", help="a TOML file whose model the weights are for")
    _add_out(take)
    take.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    take.add_argument("--input", metavar="SHAPE", help="of one example, such as 28,28,1 (default: that of the data)")
    take.add_argument(
        "--from", dest="origin", default="dbp", metavar="ORIGIN", help="pytorch for names and axes of a state_dict"
    )
    take.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="of a name or its leading parts; * is a part, or a piece of one",
    )

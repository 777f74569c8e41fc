"""The command line: what is asked for, and the part of dbp that does it; see docs/running.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import dbp
from dbp.errors import DataError, UsageError
from dbp.stopping import parse_time, signals

if TYPE_CHECKING:
    from dbp.checkpoint import Checkpoint
    from dbp.parallel import Communicator
    from dbp.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed, 2 the user's mistake."""
    if (sys.argv[1:] if arguments is None else arguments)[:1] == ["train"]:
        signals.catch()  # before anything that takes long
    try:
        parsed = _parser().parse_args(arguments)
        return int(parsed.command(parsed))
    except KeyboardInterrupt:
        sys.stderr.write("\ndbp: interrupted\n")
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from dbp.parallel import communicator_for_errors, tell

        return tell(communicator_for_errors(), error)


def _train(parsed: argparse.Namespace) -> int:
    from dbp.config import read_settings
    from dbp.parallel import from_rank_0, world
    from dbp.provenance import check_installation
    from dbp.resuming import Start
    from dbp.train import train

    if parsed.overwrite and not parsed.fresh:
        raise UsageError("--overwrite deletes an earlier run's checkpoints and goes only with --fresh")
    start = Start(
        fresh=parsed.fresh,
        overwrite=parsed.overwrite,
        retry=parsed.retry,
        accept=tuple(parsed.accept),
        time_limit=None if parsed.time_limit is None else parse_time(parsed.time_limit),
    )
    comm = world()
    check_installation(comm)  # before settings go from rank 0 to others, which another version might not understand
    changes = [*parsed.set, *([f"out={json.dumps(parsed.out)}"] if parsed.out else [])]
    train(from_rank_0(comm, read_settings, Path(parsed.config), changes), comm, start)
    return 0


def _eval(parsed: argparse.Namespace) -> int:
    from dbp.inference import evaluate

    return _infer(parsed, lambda settings, trained, comm: evaluate(settings, trained, parsed.data, comm))


def _predict(parsed: argparse.Namespace) -> int:
    from dbp.inference import predict

    out, overwrite = Path(parsed.out), parsed.overwrite
    return _infer(parsed, lambda settings, trained, comm: predict(settings, trained, parsed.data, out, overwrite, comm))


def _infer(parsed: argparse.Namespace, action: Callable[[Settings, Checkpoint, Communicator], str]) -> int:
    """Do something with a checkpoint's model on all ranks, and print the line that says what came out."""
    from dbp.inference import load, settings_of
    from dbp.parallel import agree, blas_threads, from_rank_0, together, world

    comm = world()
    checkpoint = from_rank_0(comm, load, Path(parsed.checkpoint))
    settings = agree(comm, settings_of, checkpoint)
    with together(comm), blas_threads(settings.thread_count):
        line = action(settings, checkpoint, comm)
    if comm.rank == 0:
        sys.stdout.write(line + "\n")
    return 0


def _inspect(parsed: argparse.Namespace) -> int:
    from dbp.checkpoint import digest_arrays, find
    from dbp.inference import describe

    with find(Path(parsed.checkpoint)) as found:
        text = digest_arrays(found.load().model) if parsed.digest else describe(found)
    sys.stdout.write(text + "\n")
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    from dbp.checkpoint import all_of, verdict

    verdicts = [verdict(path) for path in all_of(Path(parsed.checkpoint))]
    sys.stdout.writelines(f"{text}\n" for text, _ in verdicts)
    return 0 if all(whole for _, whole in verdicts) else DataError.exit_code


def _summary(parsed: argparse.Namespace) -> int:
    from dbp.config import read_settings
    from dbp.insight.summary import parse_shape, summary_of

    shape = None if parsed.input is None else parse_shape(parsed.input)
    settings = read_settings(Path(parsed.config), parsed.set)
    sys.stdout.write(f"{summary_of(settings, shape)}\n")
    return 0


def _neurons(parsed: argparse.Namespace) -> int:
    from dbp.insight.report import neurons_text, what_if_text

    if parsed.what_if and parsed.out:
        raise UsageError("--out is for the figures of neurons and does not go with --what-if")
    if parsed.top < 1:
        raise UsageError(f"--top must be at least 1, but is {parsed.top}")
    if parsed.what_if:
        return _infer(parsed, lambda run, trained, comm: what_if_text(run, trained, parsed.data, parsed.what_if, comm))
    out = Path(parsed.out) if parsed.out else None
    return _infer(
        parsed,
        lambda run, trained, comm: neurons_text(run, trained, parsed.data, comm, parsed.top, out, parsed.overwrite),
    )


def _convert(parsed: argparse.Namespace) -> int:
    from dbp.data import convert

    attributes: dict[str, object] = {"source": f"converted from {parsed.format}: {', '.join(parsed.files)}"}
    files = [Path(name) for name in parsed.files]
    if parsed.format == "idx":
        columns = convert.from_idx(*files)
    elif parsed.format == "npz":
        columns = convert.from_npz(files[0], parsed.inputs, parsed.targets, parsed.weights)
    else:
        columns, classes = convert.from_csv(files[0], parsed.target, parsed.delimiter)
        if classes:
            attributes["classes"] = classes
    count = convert.write_hdf5(Path(parsed.out), columns, attributes, parsed.overwrite)
    shapes = ", ".join(
        f"{name} {column.dtype} {' x '.join(map(str, column.shape))}"
        for name, column in columns.items()
        if column is not None
    )
    sys.stdout.write(f"{parsed.out}: {count:,} examples ({shapes})\n")
    return 0


def _export(parsed: argparse.Namespace) -> int:
    from dbp.exchange import export
    from dbp.insight.summary import parse_shape

    shape = None if parsed.input is None else parse_shape(parsed.input)
    line = export(Path(parsed.checkpoint), Path(parsed.out), parsed.overwrite, shape, parsed.scale)
    sys.stdout.write(line + "\n")
    return 0


def _import(parsed: argparse.Namespace) -> int:
    from dbp.exchange import import_weights
    from dbp.insight.summary import parse_shape

    shape = None if parsed.input is None else parse_shape(parsed.input)
    weights, config, out = Path(parsed.weights), Path(parsed.config), Path(parsed.out)
    line = import_weights(
        weights, config, out, parsed.set, parsed.origin, parsed.rename, shape, overwrite=parsed.overwrite
    )
    sys.stdout.write(line + "\n")
    return 0


def _run(parsed: argparse.Namespace) -> int:
    from dbp.launch import launch

    return launch(parsed.words, parsed.ranks, parsed.threads, parsed.survive)


def _doctor(parsed: argparse.Namespace) -> int:
    from dbp.doctor import doctor

    return doctor(parsed.threads, parsed.out, parsed.json)


# --- arguments --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Raises what it finds wrong, to be told as any mistake is: in one line, once for all ranks."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dbp", description=dbp.__doc__.splitlines()[0] if dbp.__doc__ else "")
    parser.add_argument("--version", action="version", version=f"dbp {dbp.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train as a config says, or go on with that training")
    train.set_defaults(command=_train)
    train.add_argument("config", metavar="CONFIG", help="a TOML file; see examples/")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    train.add_argument("--out", metavar="FOLDER", help="where the run's files go")
    train.add_argument("--fresh", action="store_true", help="start anew; an earlier run is moved aside")
    train.add_argument("--overwrite", action="store_true", help="with --fresh: delete the earlier run instead")
    train.add_argument("--accept", action="append", default=[], metavar="KEY", help="go on though this key has changed")
    train.add_argument("--retry", action="store_true", help="go on though the run has ended early again and again")
    train.add_argument(
        "--time-limit", metavar="TIME", help="save and stop before this: seconds, or hours:minutes:seconds"
    )

    evaluate = commands.add_parser("eval", help="cost and metrics of a checkpoint on data")
    evaluate.set_defaults(command=_eval)
    _add_checkpoint(evaluate)
    evaluate.add_argument("data", metavar="DATA", help="an HDF5 file with inputs and targets")

    predict = commands.add_parser("predict", help="write the outputs of a checkpoint's model for data")
    predict.set_defaults(command=_predict)
    _add_checkpoint(predict)
    predict.add_argument("data", metavar="DATA", help="an HDF5 file with inputs")
    _add_out(predict)

    verify = commands.add_parser("verify", help="whether a checkpoint, or each of a run's, is whole")
    verify.set_defaults(command=_verify)
    verify.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run's folder for all of its")

    inspect = commands.add_parser("inspect", help="what a checkpoint holds")
    inspect.set_defaults(command=_inspect)
    _add_checkpoint(inspect)
    inspect.add_argument("--digest", action="store_true", help="print only a SHA-256 over all weights by name")

    _add_insight(commands)

    _add_convert(commands.add_parser("convert", help="make an HDF5 data file from another format"))

    _add_exchange(commands)

    run = commands.add_parser(
        "run",
        help="start a command on several ranks: dbp run -n 4 -- train CONFIG",
        usage="dbp run -n N -- COMMAND ...",
    )
    run.set_defaults(command=_run)
    run.add_argument("-n", dest="ranks", type=int, default=None, metavar="N", help="ranks (default: one a core)")
    run.add_argument("--threads", type=int, default=1, metavar="T", help="threads of a rank outside of training")
    run.add_argument("--survive", action="store_true", help="ranks of a training go on when others die (Open MPI 5)")
    run.add_argument("words", nargs="+", metavar="COMMAND", help="a dbp command, a Python script, or a program")

    _add_doctor(commands.add_parser("doctor", help="whether ranks can train here, how fast, and what to mend"))
    return parser


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_doctor)
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
    summary.set_defaults(command=_summary)
    summary.add_argument("config", metavar="CONFIG", help="a TOML file; see examples/")
    summary.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    summary.add_argument("--input", metavar="SHAPE", help="of one example, such as 28,28,1 (default: that of the data)")

    neurons = commands.add_parser("neurons", help="what each neuron of a checkpoint adds to the error on data")
    neurons.set_defaults(command=_neurons)
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


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_convert)
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
    export.set_defaults(command=_export)
    _add_checkpoint(export)
    export.add_argument("out", metavar="OUT", help="ends in .safetensors or .npz (weights) or .onnx (model)")
    export.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    export.add_argument("--input", metavar="SHAPE", help="of one example, for .onnx (default: that of the data)")
    export.add_argument(
        "--scale", type=float, metavar="S", help="of the inputs, for .onnx (default: that of config or data)"
    )

    take = commands.add_parser("import", help="make a checkpoint of weights from elsewhere")
    take.set_defaults(command=_import)
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

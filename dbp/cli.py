"""The command line: what is asked for, and the part of dbp that does it; see docs/running.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.arguments import command_line
from dbp.errors import DataError, UsageError
from dbp.saving.stopping import signals
from dbp.text import parse_limit

if TYPE_CHECKING:
    from dbp.checkpoint import Checkpoint
    from dbp.config.settings import Settings
    from dbp.parallel import Communicator


def main(arguments: list[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed, 2 the user's mistake."""
    if (sys.argv[1:] if arguments is None else arguments)[:1] != ["train"]:
        return _run_command(arguments)
    signals.enter()  # before anything that takes long
    try:
        return _run_command(arguments)
    finally:
        signals.leave(ends=arguments is None)


def _run_command(arguments: list[str] | None) -> int:
    try:
        parsed = command_line().parse_args(arguments)
        return COMMANDS[parsed.command](parsed)
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
    from dbp.config.toml import read_settings
    from dbp.parallel import from_rank_0, world
    from dbp.run.provenance import check_installation
    from dbp.saving.resume import Start
    from dbp.training.loop import train

    if parsed.overwrite and not parsed.fresh:
        raise UsageError("--overwrite deletes an earlier run's checkpoints and goes only with --fresh")
    start = Start(
        fresh=parsed.fresh,
        overwrite=parsed.overwrite,
        retry=parsed.retry,
        accept=tuple(parsed.accept),
        time_limit=None if parsed.time_limit is None else parse_limit(parsed.time_limit),
    )
    comm = world()
    check_installation(comm)  # before settings go from rank 0 to others, which another version might not understand
    changes = [*parsed.set, *([f"out={json.dumps(parsed.out)}"] if parsed.out else [])]
    train(from_rank_0(comm, read_settings, Path(parsed.config), changes), comm, start)
    return 0


def _eval(parsed: argparse.Namespace) -> int:
    from dbp.trained.inference import evaluate

    return _infer(parsed, lambda settings, trained, comm: evaluate(settings, trained, parsed.data, comm))


def _predict(parsed: argparse.Namespace) -> int:
    from dbp.trained.inference import predict

    out, overwrite = Path(parsed.out), parsed.overwrite
    return _infer(parsed, lambda settings, trained, comm: predict(settings, trained, parsed.data, out, overwrite, comm))


def _infer(parsed: argparse.Namespace, action: Callable[[Settings, Checkpoint, Communicator], str]) -> int:
    """Do something with a checkpoint's model on all ranks, and print the line that says what came out."""
    from dbp.parallel import agree, blas_threads, from_rank_0, together, world
    from dbp.trained.inference import load, settings_of

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
    from dbp.trained.inference import describe

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
    from dbp.config.toml import read_settings
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
    from dbp.batch.launch import launch

    return launch(parsed.words, parsed.ranks, parsed.threads, parsed.survive)


def _submit(parsed: argparse.Namespace) -> int:
    from dbp.batch.request import Request
    from dbp.batch.submit import submit

    options = {name: value for name, value in vars(parsed).items() if name != "command"}
    lists = {name: tuple(options[name]) for name in ("set", "accept")}
    sys.stdout.write(submit(Request(**{**options, **lists})) + "\n")
    return 0


def _status(parsed: argparse.Namespace) -> int:
    from dbp.batch.status import wait_for_end

    standing = wait_for_end(Path(parsed.run), parsed.wait)
    if not parsed.quiet:
        sys.stdout.write((standing.json if parsed.json else standing.text) + "\n")
    return standing.code if parsed.quiet else 0


def _doctor(parsed: argparse.Namespace) -> int:
    from dbp.doctor import doctor

    return doctor(parsed.threads, parsed.out, parsed.json)


COMMANDS = {
    "train": _train,
    "eval": _eval,
    "predict": _predict,
    "verify": _verify,
    "inspect": _inspect,
    "convert": _convert,
    "doctor": _doctor,
    "summary": _summary,
    "neurons": _neurons,
    "run": _run,
    "submit": _submit,
    "status": _status,
    "export": _export,
    "import": _import,
}

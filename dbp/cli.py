"""The command line: parse it, run the command that it names, and turn errors into exit codes; see docs/running.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dbp.commands import COMMANDS, IN_ONE_PROCESS, SAVE_ON_SIGNAL, load
from dbp.commands.parser import Parser
from dbp.errors import INTERRUPTED, Interrupted, UsageError
from dbp.process.launcher import launched_size
from dbp.process.rank_note import is_started_by_rank
from dbp.saving.stopping import signals
from dbp.terminal import discard_unwritten, open_closed_streams, write_error
from dbp.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; docs/running.md lists them."""
    open_closed_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _with_signals(words, ends=arguments is None)
    finally:
        discard_unwritten()


def _with_signals(words: Sequence[str], *, ends: bool) -> int:
    if not set(words[:1]) & SAVE_ON_SIGNAL:
        return _run(words)
    # Before anything that takes long, so that the first signal saves the run whenever it comes.
    signals.enter(ends=ends)
    try:
        return _run(words)
    finally:
        signals.leave()


def _run(words: Sequence[str]) -> int:
    try:
        arguments = parser_of(words).parse_args(words)
        if arguments.command in IN_ONE_PROCESS and (code := _refused_on_ranks(arguments.command)):
            return code
        return load(arguments.command).run(arguments)
    except Interrupted as interruption:
        return interruption.exit_code  # the run has said what it did
    except KeyboardInterrupt:
        write_error("\ndbp: interrupted; no output is left half-written")
        return INTERRUPTED
    except BrokenPipeError:  # what reads our output, such as head, has ended
        return 1
    except Exception as error:
        from dbp.parallel import OneProcess, communicator_for_errors, report_failure

        return report_failure(communicator_for_errors() if _works_on_ranks(words) else OneProcess(), error)


def _works_on_ranks(words: Sequence[str]) -> bool:
    """Return True unless the words name a command of one process, which must not wait for other ranks."""
    return not set(words[:1]) & set(COMMANDS) or load(words[0]).ON_RANKS


def _refused_on_ranks(command: str) -> int:
    """Return an exit code if a launcher started a command on several ranks, which would all write one file; else 0.

    Rank 0 says so. A command that one rank has started is alone.
    """
    if (size := launched_size()) == 1 or is_started_by_rank():
        return 0
    from dbp.parallel import LaunchedRank, report_failure

    message = f"dbp {command} works in one process, but was started on {size} ranks; start it without a launcher"
    error = UsageError(message)
    error.on_all_ranks = True
    return report_failure(LaunchedRank(), error)


def parser_of(words: Sequence[str]) -> Parser:
    """Return the parser; it loads only the command that the words name, or all commands if they name none."""
    parser = Parser(
        prog="dbp",
        description="Train neural networks by data parallelism over MPI, to the same bits on any number of ranks.",
    )
    parser.add_argument("--version", action="version", version=f"dbp {VERSION}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name in words[:1] if set(words[:1]) & set(COMMANDS) else COMMANDS:
        command = load(name)
        sentence = f"{command.HELP[0].upper()}{command.HELP[1:]}."
        command.add(subparsers.add_parser(name, help=command.HELP, description=sentence))
    return parser

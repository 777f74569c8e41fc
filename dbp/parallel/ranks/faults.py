"""Errors on some ranks: either all ranks raise the same error, or the failing rank ends all of them.

If only the failing rank ended, the others would wait for it forever.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dbp.errors import INTERRUPTED, Interrupted, PassStoppedError, UserError
from dbp.log import run_log
from dbp.parallel.ranks.comm import Communicator, RankLostError
from dbp.terminal import write_error

Result = TypeVar("Result")
Message = TypeVar("Message")
# Delays that are enough as a rule; a shorter one costs at most a repeated or lost message.
RELAY_SECONDS = 0.2  # for a launcher to pass on what a rank wrote
TURN_SECONDS = RELAY_SECONDS + 0.25  # for a failing rank to report and to end all others


Agreed = UserError | PassStoppedError  # exceptions that all ranks raise if one does


def _attempt(function: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[Any, Agreed | None]:
    try:
        return function(*arguments), None
    except PassStoppedError as error:
        return None, error
    except UserError as error:
        error.on_all_ranks = True
        return None, error


def agree(comm: Communicator, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function that does not communicate; if it raises a UserError on any rank, raise that on all; collective.

    A PassStoppedError, which ends a part of a start, is raised on all ranks too.

    Raises:
        UserError: the error of the lowest rank that has one, the same on every rank.
    """
    result, error = _attempt(function, arguments)
    _raise_first(comm.gather(error))
    return result  # type: ignore[no-any-return]


def agree_and_gather(
    comm: Communicator, function: Callable[..., tuple[Result, Message]], *arguments: Any
) -> tuple[Result, list[Message]]:
    """Do as agree() for a function that returns a result and a message to all ranks, without another exchange for it.

    Returns:
        the result on this rank, and the messages of all ranks in their order.
    """
    found, error = _attempt(function, arguments)
    everyones = comm.gather((error, found and found[1]))
    _raise_first([error for error, _ in everyones])
    return found[0], [message for _, message in everyones]


def _raise_first(errors: Iterable[Agreed | None]) -> None:
    """Raise the first error, if there is any."""
    for error in errors:
        if error is not None:
            raise error from None


def from_rank_0(comm: Communicator, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function on rank 0 and broadcast its result (any object) or its error, as agree() does; collective."""
    result, error = comm.broadcast(_attempt(function, arguments) if comm.rank == 0 else None)
    if error is not None:
        raise error from None
    return result  # type: ignore[no-any-return]


def report_failure(comm: Communicator, error: BaseException) -> int:
    """Report an error once, end the other ranks if only this one failed, and return the exit code."""
    if isinstance(error, (UserError, Interrupted)) and (error.on_all_ranks or comm.size == 1):
        if comm.rank == 0:
            text = "\ndbp: interrupted" if isinstance(error, Interrupted) else f"dbp: error: {error}"
            run_log.write(text.strip().removeprefix("dbp: "))
            write_error(text)
        comm.gather(None)  # a launcher may end the other ranks as soon as one has exited
        return error.exit_code
    code, text = _describe(comm, error)
    run_log.write(text)
    # Several ranks may fail in the same way; the lowest of them reports it and ends the others. A launcher ends them by
    # SIGTERM, at which a training would save: now it is to end them before their turn comes.
    if comm.size > 1:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(TURN_SECONDS * min(comm.rank, 8) * (2 if comm.nodes.count > 1 else 1))
    write_error(text)
    if comm.size > 1:
        time.sleep(RELAY_SECONDS)
        comm.abort(code)
    return code


def _describe(comm: Communicator, error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message for an error that perhaps only this rank has."""
    where = f"rank {comm.rank} of {comm.size} on {socket.gethostname()}"
    if isinstance(error, UserError):
        return error.exit_code, f"dbp: error: {where}: {error}"
    if isinstance(error, RankLostError):
        return 1, f"dbp: error: {where}: {error}; all ranks end"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"dbp: {where} was interrupted; all ranks end"
    return 1, f"{_traceback(error)}\ndbp: {where} failed with {type(error).__name__}; all ranks end"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def is_on_all_ranks(error: BaseException | None) -> bool:
    """Return True if all ranks raise this error, or if there is none."""
    return error is None or getattr(error, "on_all_ranks", False)


@contextlib.contextmanager
def abort_on_error(comm: Communicator) -> Iterator[None]:
    """End all ranks if an exception that only some of them raise leaves the with statement."""
    try:
        yield
    except BaseException as error:
        if comm.size > 1 and not is_on_all_ranks(error):
            report_failure(comm, error)
        raise

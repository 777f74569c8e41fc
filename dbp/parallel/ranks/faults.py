"""What happens when something fails on one rank: all agree on the error, or all end at once.

A rank that left alone would let the others wait for it for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from dbp.errors import UserError
from dbp.log import run_log
from dbp.parallel.ranks.comm import Communicator, RankLostError

Result = TypeVar("Result")
PASSED_ON = 0.2  # seconds after which a launcher, as a rule, has passed on what a rank wrote
ALONE = 1.0  # seconds after which, as a rule, another process that was started with this one has spoken
TURN = PASSED_ON + 0.25  # seconds after which, as a rule, a rank that failed has ended all others


def _attempt(function: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[Any, UserError | None]:
    try:
        return function(*arguments), None
    except UserError as error:
        error.on_all_ranks = True
        return None, error


def agree(comm: Communicator, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function that does not communicate; if it meets a UserError on any rank, raise it on all.

    Raises:
        UserError: that of the lowest rank that met one, the same on every rank.
    """
    result, error = _attempt(function, arguments)
    errors = [e for e in comm.gather(error) if e is not None]
    if errors:
        raise errors[0] from None
    return result  # type: ignore[no-any-return]


def from_rank_0(comm: Communicator, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function on rank 0 only, and give its result (any object) to all; a UserError likewise."""
    result, error = comm.broadcast(_attempt(function, arguments) if comm.rank == 0 else None)
    if error is not None:
        raise error from None
    return result  # type: ignore[no-any-return]


def tell(comm: Communicator, error: BaseException) -> int:
    """Say once what went wrong, end the other ranks if this one failed alone, and give the exit code."""
    if isinstance(error, UserError) and (error.on_all_ranks or comm.size == 1):
        if comm.rank == 0:
            run_log.tell(f"error: {error}")
            _write(f"dbp: error: {error}")
        elif comm.size == 1:  # one of several that do not know of each other
            time.sleep(ALONE)
        comm.gather(None)  # a launcher may end the others as soon as one has left
        return error.exit_code
    code, told = _alone(comm, error)
    run_log.tell(told)
    # The same mistake may meet several ranks at once; the first of them speaks, and ends the others.
    time.sleep(TURN * min(comm.rank, 8) * (2 if comm.nodes.count > 1 else 1))
    _write(told)
    if comm.size > 1:
        time.sleep(PASSED_ON)
        comm.abort(code)
    return code


def _alone(comm: Communicator, error: BaseException) -> tuple[int, str]:
    """The exit code, and what is said, if something went wrong on this rank, and perhaps on no other."""
    where = f"rank {comm.rank} of {comm.size} on {socket.gethostname()}"
    if isinstance(error, UserError):
        return error.exit_code, f"dbp: error: {where}: {error}"
    if isinstance(error, RankLostError):
        return 1, f"dbp: error: {where}: {error}; all ranks end"
    return 1, f"{_traceback(error)}\ndbp: {where} failed with {type(error).__name__}; all ranks end"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _write(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def all_leave(error: BaseException | None) -> bool:
    """Whether all ranks leave a part, as they do without an error and with one that each of them raises."""
    return error is None or getattr(error, "on_all_ranks", False)


@contextlib.contextmanager
def together(comm: Communicator) -> Iterator[None]:
    """A part that all ranks must pass: whatever leaves it early on one rank alone ends them all."""
    try:
        yield
    except BaseException as error:
        if comm.size > 1 and not all_leave(error):
            tell(comm, error)
        raise


def end_all_on_exception(comm: Communicator) -> None:
    """From now on an exception that a script does not catch is told once, kept in the log, and ends all ranks."""

    def hook(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        code = tell(comm, error)
        sys.stdout.flush()
        sys.stderr.flush()
        comm.finalize()
        os._exit(code)  # an excepthook cannot set the exit code in another way

    sys.excepthook = hook


def keep_exception_in_log() -> None:
    """From now on an exception that a script of one process does not catch is kept in the log as well."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        run_log.tell(_traceback(error))
        before(kind, error, trace)

    sys.excepthook = hook

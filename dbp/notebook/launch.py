"""Run a function of a notebook on several ranks: they are started by `dbp run`, show their lines, and return a result.

The ranks are processes of their own, in which the kernel's variables are not. The function and what it refers to are
sent to them, and the result of rank 0 is sent back, by cloudpickle through a folder of this user alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dbp.checks import check_integer
from dbp.errors import INTERRUPTED, Interrupted, UserError
from dbp.library import library
from dbp.notebook.messages import CALL, INTERRUPTION, RESULT, Call, failures_in, packed, sources_in_memory
from dbp.notebook.screen import Screen
from dbp.process.launcher import launched_size
from dbp.process_tree import ends_with_parent
from dbp.text import brief

MOST_RANKS = 1 << 16


class RankTraceback(Exception):  # noqa: N818  a text that is shown above the error
    """The traceback of an exception on a rank, as text."""


def launch(function: Callable[..., Any], *arguments: Any, ranks: int | None = None, threads: int = 1) -> Any:
    """Run a function on several ranks of this machine, from a notebook or a program, and return what rank 0 returns.

    Every rank calls the function, which as a rule calls dbp.fit. It sees the modules, but not what the notebook changes
    later. Lines and progress bar of the ranks are shown. An interrupt (the stop button, Ctrl-C) has a training save and
    stop; a second one ends the ranks at once. The ranks end with this process.

    Args:
        function: what each rank calls.
        arguments: its arguments, the same on each rank.
        ranks: how many; by default one a core.
        threads: BLAS threads of a rank, outside of training.

    Raises:
        UserError: there is no function, it cannot be sent to ranks, or they could not be started.
        Interrupted: it was interrupted; `result` is what the training of rank 0 has come to. It is a KeyboardInterrupt.
        Exception: what a rank has raised, with the traceback of that rank as its cause.
    """
    if launched_size() > 1:
        raise UserError("dbp.launch starts ranks, but this program runs on several ranks already; call the function")
    if not callable(function):
        raise UserError(
            f"dbp.launch takes a function, but got {brief(function)}; write dbp.launch(train, ranks=2), and what train "
            "takes after it"
        )
    cloudpickle = library("cloudpickle", "dbp.launch")
    for word, number in {"ranks": ranks, "threads": threads}.items():
        if number is not None:
            check_integer(word, number, 1, MOST_RANKS)
    with tempfile.TemporaryDirectory(prefix="dbp-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        call = Call(tuple(sys.path), sources_in_memory(), _packed(cloudpickle, function, arguments))
        (folder / CALL).write_bytes(pickle.dumps(call))
        count = [] if ranks is None else ["-n", str(ranks)]
        job = [sys.executable, "-m", "dbp.notebook.job", str(os.getpid()), name]
        code, is_interrupted = _run([*job, *count, "--threads", str(threads)])
        return _outcome(folder, code, is_interrupted)


def _packed(cloudpickle: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        return packed(cloudpickle, function, arguments)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise UserError(
            f"{name} cannot be sent to ranks ({type(error).__name__}: {error}); open files and make such objects in "
            "the function itself"
        ) from None


def _run(words: list[str]) -> tuple[int, bool]:
    """Run a command, show what it prints, and return its exit code and whether it was interrupted."""
    screen, interrupts = Screen(), 0
    with screen:
        process = subprocess.Popen(  # noqa: S603  this Python, with words of its own
            words,
            stdin=subprocess.DEVNULL,
            stdout=screen.terminal,
            stderr=screen.terminal,
            start_new_session=True,  # an interrupt of the kernel is for this process, which passes it on
            preexec_fn=ends_with_parent(signal.SIGTERM, os.getpid()),
        )
        try:
            while process.poll() is None:
                try:
                    screen.show()
                except KeyboardInterrupt:
                    interrupts += 1
                    process.send_signal(signal.SIGINT)
            screen.show_rest()
        finally:
            if process.poll() is None:
                process.terminate()
    return process.wait(), interrupts > 0


def _outcome(folder: Path, code: int, is_interrupted: bool) -> Any:
    """Return the result of rank 0; raise what a rank has raised, or an interruption, even if it came too late."""
    written = [path for name in (RESULT, INTERRUPTION) if (path := folder / name).exists()]
    result = pickle.loads(written[0].read_bytes()) if written else None  # noqa: S301  by the rank of this user
    if is_interrupted:
        raise Interrupted("the ranks were interrupted", code or INTERRUPTED, result)
    if written and code == 0:
        return result
    for failure in failures_in(folder):
        _raise(failure.error, failure.text)
    raise UserError(f"the ranks ended with exit code {code} and returned nothing; their lines above say why")


def _raise(error: BaseException, text: str) -> NoReturn:
    raise error from RankTraceback(f"\n{text}")

"""A time limit for every test: at it, all that the test has started is killed, and the test fails.

A test that a signal does not interrupt, as it hangs in a library, ends its pytest process; a guardian then kills what
that has started. The marker `time_limit(seconds)` gives a test another limit.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import uuid

import pytest

from tests import processes

SECONDS = 600.0
GRACE_SECONDS = 30.0  # from the limit until the pytest process is ended
_stack = contextlib.ExitStack()
_stderr = os.dup(2) if sys.__stderr__ else -1


def pytest_configure(config: pytest.Config) -> None:
    """Mark this process's children, and start the guardian."""
    config.addinivalue_line("markers", f"time_limit(seconds): the limit of the test in place of {SECONDS:g} s")
    token = uuid.uuid4().hex
    _mark(token)
    _stack.enter_context(processes.guard(token))


def pytest_unconfigure() -> None:
    """Have the guardian kill what is left."""
    _stack.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Run a test and its fixtures within the limit."""
    marker = item.get_closest_marker("time_limit")
    with time_limit(marker.args[0] if marker else SECONDS):
        return (yield)


@contextlib.contextmanager
def time_limit(seconds: float):
    """Fail after so many seconds, when all that was started in the with statement has been killed."""
    token, before = uuid.uuid4().hex, os.environ[processes.MARK]

    def fail(*_signal: object) -> None:
        processes.kill_all(token)
        pytest.fail(f"no end within {seconds:g} s")

    signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=_stderr)
    _mark(token)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        os.environ[processes.MARK] = before


def _mark(token: str) -> None:
    os.environ.update(processes.marked(os.environ, token))

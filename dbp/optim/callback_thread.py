"""A function with callbacks, run as a coroutine: in a thread of its own that takes turns with its caller.

Each callback becomes a request that the caller answers. Only one of the two threads runs at a time, so the caller can
do what must not happen in another thread, such as MPI communication.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

Ask = Callable[[Any], Any]  # takes a request and returns its answer
CLOSE_SECONDS = 10.0  # that close() waits for the function to end


@dataclass(frozen=True)
class Returned:
    """The result of the function, when it has returned."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """The exception that ended the function."""

    error: BaseException


class _Closed(BaseException):
    """The exception that ends a waiting function; a BaseException, so that no `except Exception` in it catches it."""


class CallbackThread:
    """A thread in which a function runs from one request to the next.

    Args:
        function: takes `ask`, which it calls with a request and which returns the answer.
    """

    def __init__(self, function: Callable[[Ask], Any]):
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._closed = False
        run = contextvars.copy_context().run  # NumPy's handling of floating-point errors is a context variable
        self._thread = threading.Thread(target=run, args=(self._run, function), daemon=True)
        self._thread.start()

    def send(self, answer: Any = None) -> Any:
        """Answer the last request and return the next, or Returned or Raised at the end; the first call starts it."""
        self._answers.put(answer)
        return self._requests.get()

    def _run(self, function: Callable[[Ask], Any]) -> None:
        try:
            self._wait()
            end: Returned | Raised = Returned(function(self._ask))
        except _Closed:
            return
        except BaseException as error:  # for the caller to raise
            end = Raised(error)
        self._requests.put(end)

    def _ask(self, request: Any) -> Any:
        self._requests.put(request)
        return self._wait()

    def _wait(self) -> Any:
        answer = self._answers.get() if not self._closed else None
        if self._closed:
            raise _Closed
        return answer

    def close(self) -> None:
        """End the function; if it does not end in time, its daemon thread does not keep the process alive."""
        self._closed = True
        self._answers.put(None)
        self._thread.join(CLOSE_SECONDS)

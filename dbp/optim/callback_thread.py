"""A function in a thread of its own that takes turns with its maker: code that calls back becomes code that asks.

Strictly one of the two runs at a time, so that what the maker alone may do, such as to communicate, is left to it.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

Ask = Callable[[Any], Any]
PATIENCE = 10.0  # seconds for the function to come to its next question, when no more are answered


@dataclass(frozen=True)
class Returned:
    """What the function gave."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """By what the function ended."""

    error: BaseException


class _Closed(BaseException):
    """Ends the function where it waits for an answer; no Exception, so that nobody on the way takes it for one."""


class CallbackThread:
    """A function that runs aside, until its next question.

    Args:
        function: takes `ask`, which takes a question and gives the answer.
    """

    def __init__(self, function: Callable[[Ask], Any]):
        self._questions: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._closed = False
        run = contextvars.copy_context().run  # NumPy is to treat overflows there as it does here
        self._thread = threading.Thread(target=run, args=(self._run, function), daemon=True)
        self._thread.start()

    def next(self, answer: Any = None) -> Any:
        """Answer the last question, and wait for the next, or for how it ended; the first answer lets it begin."""
        self._answers.put(answer)
        return self._questions.get()

    def _run(self, function: Callable[[Ask], Any]) -> None:
        try:
            self._wait()
            end: Returned | Raised = Returned(function(self._ask))
        except _Closed:
            return
        except BaseException as error:  # for the maker to raise
            end = Raised(error)
        self._questions.put(end)

    def _ask(self, question: Any) -> Any:
        self._questions.put(question)
        return self._wait()

    def _wait(self) -> Any:
        answer = self._answers.get() if not self._closed else None
        if self._closed:
            raise _Closed
        return answer

    def close(self) -> None:
        """End the function, which is not waited for long: its thread does not keep the process from ending."""
        self._closed = True
        self._answers.put(None)
        self._thread.join(PATIENCE)

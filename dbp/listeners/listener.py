"""A listener: a function of one event, with how often it is called and what happens if it fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dbp.checks import LARGEST, check_integer, check_takes
from dbp.errors import UserError
from dbp.listeners.events import Event
from dbp.text import brief

Function = Callable[[Event], object]
HOW = "write dbp.fit(listeners=[function, ...]), where each function takes one event"


class Answer(Enum):
    """The answers of a listener that change the run."""

    STOP = "stop"


STOP = Answer.STOP  # returned by a listener: the run ends at the next end of a step


@dataclass(frozen=True)
class Listener:
    """A function that is called with the events of a run.

    Args:
        function: takes an event; returns STOP to end the run.
        every: steps from one Step event to the next; 0 for none. All other events always come.
        harmless: whether the run continues if the function raises an exception.
    """

    function: Function
    every: int = 1
    harmless: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(f"a listener must be a function of one event, but is {brief(self.function)}; {HOW}")
        if isinstance(self.function, type):
            name = self.function.__name__
            raise UserError(f"listener {name} is a class; make an object of it: {name}(...)")
        check_takes(f"listener {self.name}", self.function, "one event")
        object.__setattr__(self, "every", check_integer(f"every of listener {self.name}", self.every, 0, LARGEST))

    def __call__(self, event: Event) -> object:
        """Call the function."""
        return self.function(event)

    @property
    def name(self) -> str:
        """Return the name of the function, or of the class of its object."""
        found: str = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return found.rpartition("<locals>.")[2]


def listener(function: Function | None = None, *, every: int = 1, harmless: bool = False) -> Any:
    """Return a Listener of a function, or without one a decorator that does.

    Args:
        function: takes an event; returns STOP to end the run.
        every: steps from one Step event to the next; 0 for none.
        harmless: report the first error of the function, and go on training without it.
    """
    if function is not None:
        return Listener(function, every, harmless)
    return lambda function: Listener(function, every, harmless)


def as_listeners(given: Any) -> tuple[Listener, ...]:
    """Return listeners, given a list of functions; an object may have attributes `every` and `harmless`.

    Raises:
        UserError: it is no list, or something in it is no function.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise UserError(f"listeners must be a list of functions, but is {brief(given)}; {HOW}")
    return tuple(map(_as_listener, given))


def _as_listener(given: Any) -> Listener:
    if isinstance(given, Listener):
        return given
    return Listener(given, getattr(given, "every", 1), bool(getattr(given, "harmless", False)))


def failure(error: BaseException) -> str:
    """Return what a listener has raised, and the line of the listener in which it did, if it has lines."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without that of the caller
    return f"{kind}{error}" + (f" ({Path(frames[0].filename).name}, line {frames[0].lineno})" if frames else "")

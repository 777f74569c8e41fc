"""The errors that users see, and their exit codes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A mistake of the user: reported in one line, without a traceback, with exit code 2."""

    exit_code = 2
    on_all_ranks = False  # whether every rank raises the same error, so that rank 0 alone reports it


class UsageError(UserError):
    """A mistake in the command line, which all ranks share."""

    on_all_ranks = True


class DataError(UserError):
    """A file is damaged, or was not written by dbp, or an example in it breaks a rule."""

    exit_code = 65


class MisfitError(UserError):
    """Examples of a shape or type that model or loss does not take: a mistake in the config rather than in a row."""


class StorageError(UserError):
    """A file or folder that the system did not read or write.

    Args:
        message: what failed, with the name of the file.
        reason: why it failed, by which the same failure of another file is recognized.
    """

    exit_code = 74

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason or message


class NotFiniteError(UserError):
    """A cost or gradient that is infinite or not a number; the weights are unchanged."""

    exit_code = 70
    on_all_ranks = True  # as the sum over all ranks shows it


class ListenerError(UserError):
    """A listener has raised an exception, which ends the run."""

    exit_code = 1
    on_all_ranks = True  # as rank 0, which calls listeners, has all raise it


class NodesDifferError(UserError):
    """The copies of the weights on the nodes are not the same."""

    exit_code = 70
    on_all_ranks = True  # as all ranks compare


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """Return the valid name nearest to a name, or None; compares the part after the last dot, and knows aliases."""
    from dbp.other_frameworks import ALIASES

    before, dot, last = str(name).rpartition(".")
    lasts = {n.removeprefix(before + dot).lower(): n for n in valid if n.startswith(before + dot)}
    word = re.sub("^val_", "validation_", last.lower().replace("-", "_").replace(" ", "_"))
    bare = {n.replace("_", ""): n for n in lasts}
    alias = ALIASES.get(word)
    if word in lasts or alias in lasts:
        return lasts[word if word in lasts else str(alias)]
    if (plain := word.replace("_", "")) in bare:
        return lasts[bare[plain]]
    near = difflib.get_close_matches(word, lasts, n=1, cutoff=0.6)
    return lasts[near[0]] if near else None


def remedy(name: object, valid: Iterable[str]) -> str:
    """Return a hint on an unknown name: the nearest valid one, or else all of them."""
    names = sorted(valid)
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else "valid: " + ", ".join(names)


def unknown(what: str, name: object, valid: Iterable[str]) -> UserError:
    """Return the UserError for an unknown name, with a hint; see remedy()."""
    return UserError(f"unknown {what} {name!r}; {remedy(name, valid)}")


def unknown_setting(what: str, name: str, valid: Iterable[str]) -> UserError:
    """Return the UserError for an unknown setting: with what dbp has in its place, or a hint; see remedy().

    Args:
        what: "key" of a config, or what a call has, such as "setting".
        name: with the names of its sections.
        valid: the names there are, likewise.
    """
    from dbp.other_frameworks import ALIASES, hint

    names = list(valid)
    before, dot, word = name.rpartition(".")
    here = f"{before}{dot}{ALIASES.get(word.lower(), word)}" in names
    found = None if here else hint(name, from_python=what != "key")
    return UserError(f"unknown {what} {name!r}; {found}") if found else unknown(what, name, names)


ENDED = "DBP_ENDED"  # environment variable of dbp run: the file that each rank creates when it exits unless killed


NOT_FINISHED = 75  # exit code of a run that is saved and can be started again (EX_TEMPFAIL)
INTERRUPTED = 130  # exit code of what Ctrl-C has ended, as shells have it


class Stopped(SystemExit):
    """The exit of a run that was asked to stop: its state is saved, and the same command resumes it."""

    on_all_ranks = True


class Interrupted(KeyboardInterrupt):
    """The end of a run that Ctrl-C has stopped, raised on all ranks after the same step, or before the first.

    Attributes:
        exit_code: of a script that does not catch it: 75 if the run is saved, else 130.
        result: the TrainedModel with the weights and the history so far; its `test` is empty unless the run had
            finished. None if it ended before the first step of this start.
    """

    on_all_ranks = True

    def __init__(self, message: str, exit_code: int, result: Any = None):
        super().__init__(message)
        self.exit_code, self.result = exit_code, result


class PassStoppedError(Exception):
    """The end of a pass over data, for its check or evaluation, as a rank has asked the run to stop.

    A Stopped or Interrupted takes its place.
    """

    on_all_ranks = True

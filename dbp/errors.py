"""The errors that users see, and their exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for: told in one line, without a traceback, exit code 2."""

    exit_code = 2
    on_all_ranks = False  # whether every rank raises the same one, so that one of them can tell it


class UsageError(UserError):
    """A mistake in the command line, which is that of every rank."""

    on_all_ranks = True


class NotFiniteError(UserError):
    """The cost or its gradient became infinite or not a number; the weights were left as they were."""

    exit_code = 70
    on_all_ranks = True  # seen in the sum over all ranks


class DivergedError(UserError):
    """Nodes no longer have the same weights."""

    exit_code = 70
    on_all_ranks = True  # compared by all


def unknown(what: str, name: object, valid: Iterable[str]) -> UserError:
    """An unknown name, with the nearest valid one if there is one that near, else with all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    remedy = f"did you mean {near[0]!r}?" if near else "valid: " + ", ".join(names)
    return UserError(f"unknown {what} {name!r}; {remedy}")

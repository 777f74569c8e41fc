"""The check that all ranks agree on versions, settings, shapes and data, made once before the first step."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from dbp.errors import UserError
from dbp.parallel.ranks.comm import Communicator

MAX_VALUE_CHARACTERS = 100  # in a message


def differences(comm: Communicator, facts: Mapping[str, object]) -> dict[str, str]:
    """Return a text for each fact that differs between ranks: its values, and the ranks that have them; collective.

    Args:
        comm: the ranks.
        facts: names and values; values are compared as text.
    """
    everyones = comm.gather(({name: str(value) for name, value in facts.items()}, socket.gethostname()))
    texts = {}
    for name in dict.fromkeys(name for found, _ in everyones for name in found):
        ranks_of: dict[str, list[int]] = {}
        for rank, (found, _) in enumerate(everyones):
            ranks_of.setdefault(found.get(name, "nothing"), []).append(rank)
        if len(ranks_of) > 1:
            texts[name] = ", ".join(
                f"{_short(value)} on {_ranks(ranks, everyones)}" for value, ranks in ranks_of.items()
            )
    return texts


def check_equal_on_ranks(comm: Communicator, facts: Mapping[str, object], remedy: str) -> None:
    """Raise UserError on all ranks if a fact differs between them; collective."""
    if different := differences(comm, facts):
        lines = "; ".join(f"{name}: {text}" for name, text in different.items())
        error = UserError(f"ranks do not agree on {lines}; {remedy}")
        error.on_all_ranks = True
        raise error


def _short(value: str) -> str:
    return value if len(value) <= MAX_VALUE_CHARACTERS else value[: MAX_VALUE_CHARACTERS - 3] + "..."


def _ranks(ranks: Sequence[int], everyones: Sequence[tuple[dict[str, str], str]]) -> str:
    hosts = dict.fromkeys(everyones[rank][1] for rank in ranks)
    some = ", ".join(map(str, ranks[:4])) + (f" and {len(ranks) - 4} more" if len(ranks) > 4 else "")
    word = "rank" if len(ranks) == 1 else "ranks"
    return f"{word} {some} ({', '.join(list(hosts)[:3])}{' ...' * (len(hosts) > 3)})"

"""What all ranks must have alike, compared once before the first step: versions, settings, shapes, data."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from dbp.errors import UserError
from dbp.parallel.ranks.comm import Communicator

SHOWN = 60  # characters of a value


def differing(comm: Communicator, facts: Mapping[str, object]) -> list[str]:
    """For each fact that is not the same on all ranks, which values it has where; the same on every rank; collective.

    Args:
        comm: the ranks.
        facts: names and values, which are compared as text.
    """
    everyones = comm.gather(({name: str(value) for name, value in facts.items()}, socket.gethostname()))
    told = []
    for name in dict.fromkeys(name for found, _ in everyones for name in found):
        ranks_of: dict[str, list[int]] = {}
        for rank, (found, _) in enumerate(everyones):
            ranks_of.setdefault(found.get(name, "nothing"), []).append(rank)
        if len(ranks_of) > 1:
            where = (f"{_short(value)} on {_ranks(ranks, everyones)}" for value, ranks in ranks_of.items())
            told.append(f"{name}: {', '.join(where)}")
    return told


def must_be_alike(comm: Communicator, facts: Mapping[str, object], remedy: str) -> None:
    """UserError, on all ranks, if a fact is not the same on all of them; collective."""
    if told := differing(comm, facts):
        error = UserError(f"ranks do not agree on {'; '.join(told)}; {remedy}")
        error.on_all_ranks = True
        raise error


def _short(value: str) -> str:
    return value if len(value) <= SHOWN else value[: SHOWN - 3] + "..."


def _ranks(ranks: Sequence[int], everyones: Sequence[tuple[dict[str, str], str]]) -> str:
    hosts = dict.fromkeys(everyones[rank][1] for rank in ranks)
    some = ", ".join(map(str, ranks[:4])) + (f" and {len(ranks) - 4} more" if len(ranks) > 4 else "")
    word = "rank" if len(ranks) == 1 else "ranks"
    return f"{word} {some} ({', '.join(list(hosts)[:3])}{' ...' * (len(hosts) > 3)})"

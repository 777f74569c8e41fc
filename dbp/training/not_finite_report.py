"""The report on a cost or gradient that is not finite: what failed, where, and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from dbp.training.not_finite_diagnosis import DATA, MOMENTS, SHOWN, Found

WIDTH = 80  # columns of a report
MOST_RANKS = 3  # ranks that one line names
INTRODUCTIONS = ("first not finite", "then", "then")  # of the findings that a report describes
FINITE_HERE = "at these weights cost and gradient are finite, but not where the next step leads"


def headline(findings: Sequence[Found], cost_is_finite: bool, when: str) -> str:
    """Return what is not finite, in one line.

    Args:
        findings: what a search has found, in order.
        cost_is_finite: whether the cost of the failed step is.
        when: the step, the epoch and the cost, in words.
    """
    if not cost_is_finite:
        what = "the cost is"
    elif findings and findings[0].source == MOMENTS:
        what = "running moments are"
    else:  # at these weights or at others that the optimizer tried
        what = "the cost or its gradient is"
    return f"{what} not finite {when}"


def is_in_data(findings: Iterable[Found]) -> bool:
    """Return True if the data itself is not finite."""
    return any(one.source == DATA for one in findings)


def remedy(findings: Iterable[Found], advice: str) -> str:
    """Return what the user can do, in one line.

    Args:
        findings: what a search has found.
        advice: what to do if the data is finite.
    """
    return "repair these examples, or leave them out" if is_in_data(findings) else advice


def describe(findings: Sequence[Found], data: str) -> list[str]:
    """Return lines on what is not finite, first things first, with the ranks, shards and examples of each.

    Args:
        findings: in order.
        data: the name of the data set.
    """
    if not findings:
        return [FINITE_HERE]
    groups = [list(group) for _, group in groupby(findings, key=lambda one: (one.source, one.order, one.what))]
    lines = []
    for introduction, group in zip(INTRODUCTIONS, groups, strict=False):
        lines += [f"{introduction}: {group[0].what}", f"  {_origin(group, data)}"]
    left = len(groups) - len(INTRODUCTIONS)
    return [*lines, f"and {left} more"] if left > 0 else lines


def _origin(group: Sequence[Found], data: str) -> str:
    """Return the ranks, shards and examples of one finding."""
    parts = [_first(dict.fromkeys(f"rank {one.rank} on {one.host}" for one in group), MOST_RANKS)]
    shards = [str(one.shard) for one in group if one.shard is not None]
    if shards:
        parts.append(f"shard{'s' * (len(shards) > 1)} {_first(shards, SHOWN)}")
    if wrong := sum(one.wrong for one in group):
        rows = sorted(row for one in group for row in one.rows)
        count = f"{wrong:,} of {sum(one.examples for one in group):,} examples: row{'s' * (wrong > 1)}"
        parts.append(f"{count} {_first(map(str, rows), SHOWN, wrong)} of {data}")
    return "; ".join(parts)


def _first(texts: Iterable[str], most: int, count: int = 0) -> str:
    """Return the first few texts, and how many more there are."""
    texts = list(texts)
    left = max(count, len(texts)) - len(texts[:most])
    return ", ".join(texts[:most]) + (f" and {left:,} more" if left > 0 else "")


def report(head: str, lines: Iterable[str], room: int = 0) -> str:
    """Return a headline and lines below it, wrapped to the width of a terminal.

    Args:
        head: the headline.
        lines: the lines below it, which may begin with spaces.
        room: columns that are taken before the headline.
    """
    wrapped = [_wrapped(head, room, 2).lstrip()]
    for line in lines:
        depth = 2 + len(line) - len(line.lstrip())
        wrapped.append(_wrapped(line.lstrip(), depth, depth + 2))
    return "\n".join(wrapped)


def _wrapped(line: str, first: int, others: int) -> str:
    """Return a line wrapped between words, its first row and its other rows indented by so many spaces."""
    return textwrap.fill(
        line,
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_long_words=False,
        break_on_hyphens=False,
    )

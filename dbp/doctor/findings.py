"""What was found: each thing that was looked at, how it is, and what to do about it; as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

GOOD, WARNING, BAD = "good", "warning", "bad"
COLOURS = {GOOD: "\x1b[32m", WARNING: "\x1b[33m", BAD: "\x1b[1;31m"}
PLAIN = "\x1b[0m"
WIDTH = 80
MARK, CHECK = 9, 16  # columns of the mark and of what was looked at


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        check: what.
        state: good, warning (training works, but could be better or safer) or bad (it does not, or not rightly).
        found: how it is.
        remedy: what to do about it; none if it is good.
    """

    check: str
    state: str
    found: str
    remedy: str = ""

    @classmethod
    def of(cls, check: str, state: str, told: str) -> Finding:
        """Of a complaint of the form: what is wrong; what to do about it."""
        found, _, remedy = told.partition("; ")
        return cls(check, state, found, remedy)


Part = Sequence[Finding]  # what belongs together


@dataclass(frozen=True)
class Report:
    """All that was found.

    Args:
        title: dbp's version, and how many ranks there are.
        parts: findings, those that belong together side by side.
        facts: numbers and names that the findings come from, for programs.
    """

    title: str
    parts: Sequence[Part]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of_state(self, state: str) -> list[Finding]:
        """Findings that are so."""
        return [finding for part in self.parts for finding in part if finding.state == state]

    @property
    def exit_code(self) -> int:
        """1 if anything is bad."""
        return int(bool(self.of_state(BAD)))

    def json(self) -> str:
        """For programs: findings and facts."""
        findings = [asdict(finding) for part in self.parts for finding in part]
        return json.dumps({"findings": findings, "facts": self.facts}, indent=1)

    def text(self, colours: bool = False) -> str:
        """For people: a line a finding, remedies beneath, and in the last line what is not good.

        Args:
            colours: of the marks, by the escape sequences of a terminal.
        """
        lines = [self.title]
        for part in self.parts:
            lines += ["", *(line for finding in part for line in _lines(finding, colours))]
        return "\n".join([*lines, "", self._verdict(colours)])

    def _verdict(self, colours: bool) -> str:
        """What is bad comes last, where it is seen first."""
        told = []
        for state, what in ((WARNING, "warning"), (BAD, "bad, mend this first")):
            if found := self.of_state(state):
                names = ", ".join(dict.fromkeys(finding.check for finding in found))
                many = "s" * (state == WARNING and len(found) > 1)
                told += _wrapped(f"{len(found)} {what}{many}: ", names, colours, state)
        return "\n".join(told) or _coloured("all is good", GOOD, colours)


def _coloured(text: str, state: str, colours: bool) -> str:
    return f"{COLOURS[state]}{text}{PLAIN}" if colours else text


def _wrapped(head: str, text: str, colours: bool, state: str) -> list[str]:
    first, *rest = textwrap.wrap(head + text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [_coloured(head.rstrip(), state, colours) + first[len(head.rstrip()) :], *rest]


def _lines(finding: Finding, colours: bool) -> list[str]:
    """The mark, what was looked at, how it is; and beneath what to do about it."""
    indent = " " * (MARK + CHECK)
    lines = textwrap.wrap(finding.found, WIDTH - len(indent), break_on_hyphens=False)
    if finding.remedy:
        lines += textwrap.wrap(
            f"-> {finding.remedy}", WIDTH - len(indent), subsequent_indent="   ", break_on_hyphens=False
        )
    mark = _coloured(finding.state, finding.state, colours) + " " * (MARK - len(finding.state))
    return [mark + finding.check.ljust(CHECK) + lines[0], *(indent + line for line in lines[1:])]

"""Findings of the examination and their report, as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dbp.text import printable

GOOD, WARNING, BAD = "good", "warning", "bad"
COLORS = {GOOD: "\x1b[32m", WARNING: "\x1b[33m", BAD: "\x1b[1;31m"}
PLAIN = "\x1b[0m"
WIDTH = 80
MARK, CHECK = 9, 16  # columns of the state and of the subject


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: the subject of the check.
        state: good, warning (training works, but could be faster or safer) or bad (it fails, or gives wrong results).
        found: what was found.
        remedy: what to do about it; empty if it is good.
    """

    check: str
    state: str
    found: str
    remedy: str = ""

    @classmethod
    def of(cls, check: str, state: str, message: str) -> Finding:
        """Return a finding from a message of the form: what is wrong; what to do about it."""
        found, _, remedy = message.partition("; ")
        return cls(check, state, found, remedy)


Part = Sequence[Finding]  # findings on related subjects


@dataclass(frozen=True)
class Report:
    """The findings of an examination.

    Args:
        title: the first line.
        parts: findings, grouped by subject.
        facts: numbers and names behind the findings, for programs.
    """

    title: str
    parts: Sequence[Part]
    facts: dict[str, Any] = field(default_factory=dict)

    def with_part(self, part: Part) -> Report:
        """Return the report with one part more."""
        return replace(self, parts=[*self.parts, part])

    def of_state(self, state: str) -> list[Finding]:
        """Return the findings of a state."""
        return [finding for part in self.parts for finding in part if finding.state == state]

    @property
    def exit_code(self) -> int:
        """Return 1 if a finding is bad, else 0."""
        return int(bool(self.of_state(BAD)))

    def json(self) -> str:
        """Return findings and facts as JSON."""
        findings = [asdict(finding) for part in self.parts for finding in part]
        return json.dumps({"findings": findings, "facts": self.facts}, indent=1)

    def text(self, colors: bool = False) -> str:
        """Return a line for each finding, with its remedy below, and at last a summary of what is not good.

        Args:
            colors: color the states by escape sequences of a terminal.
        """
        lines = [self.title]
        for part in self.parts:
            lines += ["", *(line for finding in part for line in _lines(finding, colors))]
        return "\n".join([*lines, "", self._verdict(colors)])

    def _verdict(self, colors: bool) -> str:
        """Return the summary, with bad findings last, where they are seen first."""
        lines = []
        for state, what in ((WARNING, "warning"), (BAD, "bad, fix this first")):
            if found := self.of_state(state):
                names = ", ".join(dict.fromkeys(finding.check for finding in found))
                many = "s" * (state == WARNING and len(found) > 1)
                lines += _wrapped(f"{len(found)} {what}{many}: ", names, colors, state)
        return "\n".join(lines) or _colored("all is good", GOOD, colors)


def _colored(text: str, state: str, colors: bool) -> str:
    return f"{COLORS[state]}{text}{PLAIN}" if colors else text


def _wrapped(head: str, text: str, colors: bool, state: str) -> list[str]:
    first, *rest = textwrap.wrap(head + text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [_colored(head.rstrip(), state, colors) + first[len(head.rstrip()) :], *rest]


def _lines(finding: Finding, colors: bool) -> list[str]:
    """Return the lines of a finding: state, subject and what was found; then the remedy."""
    indent = " " * (MARK + CHECK)
    lines = textwrap.wrap(printable(finding.found), WIDTH - len(indent), break_on_hyphens=False)
    if finding.remedy:
        lines += textwrap.wrap(
            f"-> {printable(finding.remedy)}", WIDTH - len(indent), subsequent_indent="   ", break_on_hyphens=False
        )
    mark = _colored(finding.state, finding.state, colors) + " " * (MARK - len(finding.state))
    return [mark + finding.check.ljust(CHECK) + lines[0], *(indent + line for line in lines[1:])]

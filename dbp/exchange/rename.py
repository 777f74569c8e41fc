"""Rename imported weights to the names of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dbp.errors import UserError
from dbp.text import shortened


def renamed(names: Iterable[str], rules: Sequence[str]) -> dict[str, str]:
    """Return the old name of each new name.

    Args:
        names: old names, whose parts are separated by dots or slashes.
        rules: texts OLD=NEW; the first that matches a name is applied to it. OLD is a name or its leading parts. Each *
            in OLD matches a part, or a piece of one, and fills the * of NEW at the same position.

    Raises:
        UserError: a rule has another form or matches no name, or two names become the same.
    """
    names = list(names)
    patterns = [_pattern(rule) for rule in rules]
    unused = set(rules)
    found: dict[str, str] = {}
    for name in names:
        new = name
        for rule, (old, template) in zip(rules, patterns, strict=True):
            if match := old.match(name):
                new = _filled(template, match) + name[match.end() :]
                unused.discard(rule)
                break
        if new in found:
            raise UserError(f"weights {found[new]!r} and {name!r} would both become {new!r}; change a --rename")
        found[new] = name
    for rule in unused:
        raise UserError(f"--rename {rule} fits none of the weights; they are {shortened(names)}")
    return found


def _pattern(rule: str) -> tuple[re.Pattern[str], str]:
    old, equals, new = rule.partition("=")
    if not (old and equals and new):
        raise UserError(f"--rename takes OLD=NEW, but got {rule!r}")
    if new.count("*") > old.count("*"):
        raise UserError(f"--rename {rule}: every * of the new name needs one in the old name")
    return re.compile("([^./]+)".join(map(re.escape, old.split("*"))) + r"(?=[./]|$)"), new


def _filled(template: str, match: re.Match[str]) -> str:
    for text in match.groups():
        template = template.replace("*", text, 1)
    return template

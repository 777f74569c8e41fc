"""Rename weights of another model to the names of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from dbp.errors import UserError
from dbp.text import shortened

OPTION = "--rename"


def rules_in(texts: Sequence[str]) -> dict[str, str]:
    """Return the new names by the old ones that texts OLD=NEW of a command say; raise UserError for another form."""
    rules = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise UserError(f"{OPTION} takes OLD=NEW, but got {text!r}")
        rules[old] = new
    return rules


def renamed(names: Iterable[str], rules: Mapping[str, str], setting: str = OPTION) -> dict[str, str]:
    """Return the old name of each new name.

    Args:
        names: old names, whose parts are separated by dots or slashes.
        rules: new names by old ones; the first that matches a name is applied to it. An old one is a name or its
            leading parts. Each * in it matches a part, or a piece of one, and fills the * of the new name at the same
            position.
        setting: what messages call the rules.

    Raises:
        UserError: a rule matches no name, or two names become the same.
    """
    names = list(names)
    patterns = [(old, *_pattern(old, new, setting)) for old, new in rules.items()]
    unused = set(rules)
    found: dict[str, str] = {}
    for name in names:
        new = name
        for rule, old, template in patterns:
            if match := old.match(name):
                new = _filled(template, match) + name[match.end() :]
                unused.discard(rule)
                break
        if new in found:
            raise UserError(f"weights {found[new]!r} and {name!r} would both become {new!r}; change a {setting}")
        found[new] = name
    for rule in rules:
        if rule in unused:
            raise UserError(f"{setting} {rule}={rules[rule]} fits none of the weights; they are {shortened(names)}")
    return found


def _pattern(old: str, new: str, setting: str) -> tuple[re.Pattern[str], str]:
    if new.count("*") > old.count("*"):
        raise UserError(f"{setting} {old}={new}: every * of the new name needs one in the old name")
    return re.compile("([^./]+)".join(map(re.escape, old.split("*"))) + r"(?=[./]|$)"), new


def _filled(template: str, match: re.Match[str]) -> str:
    for text in match.groups():
        template = template.replace("*", text, 1)
    return template

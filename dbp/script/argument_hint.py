"""A hint at an argument that a class of dbp does not have, for the TypeError that Python raises of it."""

from __future__ import annotations

import inspect
import re
import sys

from dbp.errors import unknown_setting

PUBLIC = ("dbp.nn", "dbp.optim", "dbp.config.settings")  # modules with the classes of settings
UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def argument_hint(error: BaseException) -> str | None:
    """Return one line on the argument that dbp has instead; None if the error is of another kind or class."""
    found = UNEXPECTED.match(str(error)) if isinstance(error, TypeError) else None
    modules = [sys.modules[name] for name in PUBLIC if name in sys.modules]  # a class of another has not been called
    classes = [cls for module in modules if found and (cls := getattr(module, found[1], None)) is not None]
    if found is None or not classes:
        return None
    valid = list(inspect.signature(classes[0]).parameters)
    return str(unknown_setting(f"argument of {found[1]}", found[2], valid))

"""Optional libraries, imported when a file needs them."""

from __future__ import annotations

import importlib
from typing import Any

from dbp.errors import UserError


def library(name: str, what: str, package: str = "") -> Any:
    """Import a module of an optional library; raise UserError with the pip command if it is not installed.

    Args:
        name: of the module.
        what: what needs it, in words.
        package: what pip installs; by default a package of the library's name.
    """
    own = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, own):  # the library is installed, but one of its own requirements is not
            raise
        raise UserError(f"{what} needs the library {package or own}; pip install {package or own}") from None

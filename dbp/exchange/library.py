"""Libraries that are not among dbp's requirements, loaded where a file needs them."""

from __future__ import annotations

import importlib
from typing import Any

from dbp.errors import UserError


def library(name: str, what: str) -> Any:
    """A module of an optional library; UserError, saying how to get it, if it is not installed."""
    package = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, package):  # it is there, but lacks something itself
            raise
        raise UserError(f"{what} needs the library {package}; pip install 'dbp-mpi[{package}]'") from None

"""Names of a package that are imported when they are first used, as thousands of ranks may import dbp at once."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


def attribute(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Import a module of a package and return a name from it, for the package's `__getattr__`.

    Args:
        package: its name.
        homes: by name, the module of the package that defines it.
        name: the name.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)


class Kinds(Mapping[str, type[Any]]):
    """Classes of a package by their kinds, each imported when it is asked for.

    Args:
        package: its name.
        classes: by kind, the module and the name of the class, such as "adam.AdamW".

    Attributes:
        homes: by name of a class, its module.
    """

    def __init__(self, package: str, classes: Mapping[str, str]):
        self._package, self._classes = package, classes
        self.homes = {name: module for module, name in (path.split(".") for path in classes.values())}

    def __getitem__(self, kind: str) -> type[Any]:
        found: type[Any] = attribute(self._package, self.homes, self._classes[kind].split(".")[1])
        return found

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __repr__(self) -> str:
        return f"<kinds of {self._package}: {', '.join(self)}>"

"""Python code of the user's that a config names, such as the class in my_layers.py by `kind = "my_layers:Augment"`.

Code is imported from the folder of a config that the user trains, or from a file that a command names with `--code`;
never because a checkpoint says so.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dbp.errors import UserError, remedy

OWN_KIND = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PYTHON = ".py"
CODE = "code"  # the key of the folder of the files
LOSS = "loss"
WITH_KINDS = ("model", LOSS, "metrics", "schedule")  # keys of what may be code of the user's
PACKAGE_FOLDER = Path(__file__).parents[1]


def is_own_kind(kind: Any) -> bool:
    """Return True if a kind names code of the user's."""
    return isinstance(kind, str) and OWN_KIND.fullmatch(kind) is not None


def own_kinds(table: Mapping[str, Any]) -> list[str]:
    """Return the kinds in the table of a config that name code of the user's, in their order."""
    return [
        kind for key in WITH_KINDS for kind in kinds_in(_by_target(table.get(key)) if key == LOSS else table.get(key))
    ]


def _by_target(loss: Any) -> Any:
    """Return a loss, or a table of losses by target, which are tables in place of names of code of the user's."""
    if not isinstance(loss, Mapping) or "kind" in loss:
        return loss
    return {target: {"kind": one} if is_own_kind(one) else one for target, one in loss.items()}


def kinds_in(value: Any) -> list[str]:
    """Return the kinds that name code of the user's in a kind, in a table with a kind, or in a list of these."""
    if isinstance(value, Mapping):
        inner = [kind for item in value.values() if not isinstance(item, str) for kind in kinds_in(item)]
        return [*kinds_in(value.get("kind")), *inner]
    if isinstance(value, list):
        return [kind for item in value for kind in kinds_in(item)]
    return [value] if is_own_kind(value) else []


class Own(NamedTuple):
    """Code of the user's in the place of the kind that names it.

    Args:
        kind: the kind.
        code: what it names: a class, a function or an object.
    """

    kind: str
    code: Any


def with_own_code(table: Mapping[str, Any], code: Path | None) -> dict[str, Any]:
    """Return the table of a config with code in the place of kinds that name some, and without its folder.

    Args:
        table: as a config has it.
        code: the file, or the folder of files; None if the user has not asked for code.

    Raises:
        UserError: there is a kind that names code, and the code cannot be had.
    """
    table = {key: _by_target(value) if key == LOSS else value for key, value in table.items()}
    inside = {key: _with_code(value, key, code) if key in WITH_KINDS else value for key, value in table.items()}
    return {key: value for key, value in inside.items() if key != CODE}


def _with_code(value: Any, key: str, code: Path | None) -> Any:
    """Return a kind, a table with a kind, or a list of these, with code in the place of own kinds."""
    if isinstance(value, Mapping):
        items = ((name, item) for name, item in value.items() if not isinstance(item, str))
        inner = {name: _with_code(item, f"{key}.{name}", code) for name, item in items}
        inner = {name: inner.get(name, item) for name, item in value.items() if name != "kind"}
        kind = str(value.get("kind"))
        return {"kind": Own(kind, imported(kind, code, key)), **inner} if is_own_kind(kind) else {**value, **inner}
    if isinstance(value, list):
        return [_with_code(item, f"{key}.{number}", code) for number, item in enumerate(value)]
    return {"kind": Own(value, imported(value, code, key))} if is_own_kind(value) else value


def imported(kind: str, code: Path | None, key: str) -> Any:
    """Return what a kind names, from a file that the user has asked for.

    Args:
        kind: the file's name without .py, a colon, and the name of a class, function or object that the file defines.
        code: the file, or the folder of files; None if the user has not asked for code.
        key: of the kind, for messages.

    Raises:
        UserError: there is no such file, or nothing of that name is defined in it, or it raises an error.
    """
    module, _, name = kind.partition(":")
    file, what = f"{module.replace('.', '/')}.py", f"{key} {kind!r}"
    if code is None:
        raise UserError(f"{what} is Python code: pass its file, --code {file}, or code={file!r} in Python")
    folder = code.resolve()
    if code.suffix == PYTHON:  # then no other file of the folder, whatever a checkpoint names
        folder = folder.parents[min(module.count("."), len(folder.parents) - 1)]
        if folder / file != code.resolve():
            raise UserError(f"{what} is in a file {file}, but the one given is {code}; pass --code {file}")
    found = _module(module, file, folder, what)
    if not hasattr(found, name):
        names = [one for one in vars(found) if not one.startswith("_")]
        raise UserError(f"{what}: {folder / file} has no {name}; {remedy(name, names)}")
    thing = getattr(found, name)
    if hasattr(thing, "__qualname__") and getattr(thing, "__module__", None) != found.__name__:
        raise UserError(f"{what}: {name} is defined in {thing.__module__}; name the file that defines it")
    return thing


def _module(name: str, file: str, folder: Path, what: str) -> ModuleType:
    """Import a file of a folder, under its name, so that it may import its neighbors and other ranks find it."""
    if not (folder / file).is_file():
        raise UserError(f"{what}: there is no file {folder / file}")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = importlib.import_module(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: importing {folder / file} failed: {type(error).__name__}: {error}") from error
    if Path(getattr(found, "__file__", None) or "").resolve() != folder / file:
        raise UserError(f"{what}: another module has the name {name}; rename {folder / file}")
    return found


def code_at(path: str) -> Path:
    """Return the path of a Python file, or of a folder of some, that a user asks for; raise UserError for another."""
    given = Path(path)
    if not given.is_dir() and not (given.suffix == PYTHON and given.is_file()):
        what = "is no Python file and no folder" if given.exists() else "does not exist"
        raise UserError(f"code {path} {what} (looked for {given.absolute()}); give the .py file that the config names")
    return given


def kind_of(code: Any) -> str | None:
    """Return the kind that names a class or function of the user's; None if no file can be imported for it."""
    found, name = _users_module(code), getattr(code, "__qualname__", "")
    return f"{found.__name__}:{name}" if found is not None and getattr(found, name, None) is code else None


def kind_of_object(thing: Any, function: Any) -> str | None:
    """Return the kind that names an object of the user's, in the file of one of its functions; None if none does."""
    found = _users_module(function)
    names = [] if found is None else [name for name, value in vars(found).items() if value is thing]
    return f"{found.__name__}:{names[0]}" if found is not None and names else None


def _users_module(code: Any) -> ModuleType | None:
    """Return the module of a class or function if it is a file of the user's that can be imported."""
    found = sys.modules.get(getattr(code, "__module__", None) or "__main__")
    file = getattr(found, "__file__", None)
    is_users = file is not None and PACKAGE_FOLDER not in Path(file).resolve().parents
    return found if found is not None and found.__name__ != "__main__" and is_users else None


def folder_of(kind: str) -> str:
    """Return the folder of the file of a kind whose module is imported."""
    module = kind.partition(":")[0]
    path = Path(sys.modules[module].__file__ or "").resolve()
    return str(path.parents[module.count(".")])

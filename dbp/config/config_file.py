"""Config files and the changes of --set: TOML to a table of plain values, with paths as seen from here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbp.checks import LARGEST, MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH
from dbp.config.data import PARTS, with_paths
from dbp.config.own_code import CODE, own_kinds
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.text import brief, is_digits

Table = dict[str, Any]
# The keys of paths.
OF_SOURCES = (("weights",), ("weights", "from"), ("data", "standardize", "from"))
FILES = (("out",), (CODE,), *OF_SOURCES, *(("data", part) for part in PARTS))
NAMED_ALONE = ("loss", "metrics", "optimizer", "schedule")  # where a name alone stands for a table with this kind
RUN_CONFIG = "config.toml"  # in a run's folder: its settings, as it has written them


def load_table(path: Path, changes: list[str], out: str | None = None) -> Table:
    """Return the table in a config file, with changes.

    Paths in the file are relative to its folder, those in changes to the current one. The run's folder is named after
    the file by default.

    Args:
        path: the config file.
        changes: of the form key=value.
        out: the run's folder, if it is not that of the file.

    Raises:
        UserError: the file is no TOML, a change has a mistake, or a value is one that a run could not store.
    """
    with reading_from(f"config {path}"), path.open("rb") as file:
        content = file.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise UserError(f"config {path} has more than {MAX_CONFIG_BYTES:,} bytes; take a smaller one")
    try:
        table = _parse(content.decode())
    except (UserError, ValueError) as error:
        raise UserError(f"config {path} is not valid TOML: {error}") from None
    table.setdefault("out", f"runs/{path.stem}")
    _resolve(table, path.parent)
    for change in changes:
        _apply(table, change)
    if out is not None:
        table["out"] = out
    if own_kinds(table):
        table.setdefault(CODE, str(path.parent))
    check_plain(table)
    return table


def uses_own_code(path: Path, changes: list[str]) -> bool:
    """Return True if a config file, with changes, names Python code of the user's; see load_table()."""
    return bool(own_kinds(load_table(path, changes)))


def _parse(text: str) -> Table:
    """Return the table in TOML; raise UserError for what Python's parser refuses, in whatever way."""
    import tomllib

    try:
        return tomllib.loads(text)
    except ValueError as error:  # also for numbers of more than 4,300 digits
        raise UserError(str(error)) from None
    except RecursionError:
        raise UserError(f"it is nested more than {MAX_CONFIG_DEPTH} deep") from None


def check_plain(value: Any, key: str = "", depth: int = MAX_CONFIG_DEPTH) -> None:
    """Raise UserError, which names the key, for a value that no file of a run can hold.

    These are whole numbers of more than 64 bits, text that is not Unicode or has a zero byte, and tables and lists
    that are nested too deep.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_text(name, "a key")
            check_plain(item, f"{key}.{name}" if key else name, _one_less(depth, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_plain(item, f"{key}.{index}", _one_less(depth, key))
    elif isinstance(value, str):
        _check_text(value, key)
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise UserError(f"{key} must be a whole number of at most 64 bits, but is {brief(value)}")


def _one_less(depth: int, key: str) -> int:
    if not depth:
        raise UserError(f"{brief(key)} is nested more than {MAX_CONFIG_DEPTH} deep")
    return depth - 1


def _check_text(text: str, key: str) -> None:
    try:
        text.encode()
        valid = "\0" not in text
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise UserError(f"{key} must be text in UTF-8 without zero bytes, but is {brief(text)}")


def check_not_in_folder(path: Path, folder: Path) -> None:
    """Raise UserError if a config lies in the run's folder, unless it is the one that the run has written there."""
    file, run = path.resolve(), folder.resolve()
    if file.is_relative_to(run) and file != run / RUN_CONFIG:
        raise UserError(
            f"the run's folder {folder} holds its config {path}; give the run a folder of its own with --out or out"
        )


def _resolve(table: Table, folder: Path) -> None:
    """Make the paths in a table relative to the current folder instead of the config's."""
    for *sections, name in FILES:
        entry: Any = table
        for section in sections:
            entry = entry.get(section) if isinstance(entry, dict) else None
        if isinstance(entry, dict) and name in entry:
            entry[name] = with_paths(entry[name], lambda path: str(folder / path))


def _apply(table: Table, change: str) -> None:
    """Set one key, such as optimizer.learning_rate=0.01 or model.layers.0.units=64."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set takes key=value, but got {brief(change)}")
    entry: Any = table
    *path, last = key.strip().split(".")
    if len(path) > MAX_CONFIG_DEPTH:
        raise UserError(f"--set {brief(key)} is nested more than {MAX_CONFIG_DEPTH} deep")
    for part in path:
        entry = _enter(entry, part, key, path[0] in NAMED_ALONE and part != "kind")
    if isinstance(entry, list):
        _item(entry, last, key)
        entry[int(last)] = _value(key, text)
    elif isinstance(entry, dict):
        entry[last] = _value(key, text)
    else:
        raise UserError(f"--set {brief(key)}: {brief('.'.join(path))} is a value, not a table")


def _value(key: str, text: str) -> Any:
    """Return the value of a change: TOML, or a word without quotes."""
    try:
        table = _parse(f"value = {text}")
    except UserError:
        return text.strip()
    if len(table) > 1:
        raise UserError(f"--set {brief(key)} takes one value, but got {brief(text)}")
    return table["value"]


def _enter(entry: Any, part: str, key: str, may_be_name: bool) -> Any:
    """Return the entry of a part of a key; one that is not there yet, or a name without settings, becomes a table."""
    if isinstance(entry, dict) and part not in entry:
        entry[part] = {}
    inside = _item(entry, part, key)
    if may_be_name and isinstance(inside, str):
        inside = entry[part if isinstance(entry, dict) else int(part)] = {"kind": inside}
    return inside


def _item(entry: Any, part: str, key: str) -> Any:
    if isinstance(entry, dict):
        return entry[part]
    if isinstance(entry, list) and is_digits(part) and int(part) < len(entry):
        return entry[int(part)]
    has = f"has {len(entry)} entries, from 0" if isinstance(entry, list) else "is a value"
    raise UserError(f"--set {brief(key)}: there is no {brief(part)}: what stands there {has}")

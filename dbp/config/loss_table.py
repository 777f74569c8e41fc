"""The loss of a config: a name or a table, or a table of such by the names of several targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from dbp.errors import UserError, nearest, unknown
from dbp.nn import LOSSES, JointLoss, TargetLoss, as_loss

KindReader = Callable[[Mapping[str, type[Any]], Any, str], Any]  # returns an object from the kinds, its table, its key


def read_loss(value: Any, key: str, read_kind: KindReader, others: tuple[str, ...] = ()) -> Any:
    """Return a loss, or a JointLoss of those of several targets: a table by their names, which has no kind.

    Args:
        value: as a config has it.
        key: of the loss, for messages.
        read_kind: reads an object of the kind that its table names.
        others: keys, besides `kind`, of a table that is no table of several targets.
    """
    if not isinstance(value, Mapping) or {"kind", *others} & value.keys():
        return read_kind(LOSSES, value, key)
    parts = {}
    for name, given in value.items():
        table = dict(given) if isinstance(given, Mapping) else {"kind": given}
        weight = table.pop("weight", 1.0)
        for word in _unknown_words(table):
            if nearest(word, ["weight"]):
                raise unknown("key", f"{key}.{name}.{word}", [f"{key}.{name}.weight"])
        loss = read_kind(LOSSES, table, f"{key}.{name}")
        try:
            parts[name] = TargetLoss(as_loss(loss), weight)
        except UserError as error:
            raise UserError(f"{key}.{name}: {error}") from None
    return JointLoss(parts)


def _unknown_words(table: Mapping[str, Any]) -> list[str]:
    """Return the keys of a table that the loss of its kind does not have; none of a kind that is not dbp's."""
    kind = table.get("kind")
    cls: Any = LOSSES.get(kind) if isinstance(kind, str) else None
    known = [field.name for field in fields(cls)] if cls else table
    return [word for word in table if word not in ("kind", *known)]


def loss_table(loss: JointLoss, value_of: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the table that describes the losses of several targets.

    Args:
        loss: of the targets.
        value_of: returns the name of a loss, or its table.
    """
    found = {}
    for name, part in loss.parts.items():
        value = value_of(part.loss)
        if part.weight != 1:
            value = {**(value if isinstance(value, Mapping) else {"kind": value}), "weight": part.weight}
        found[name] = value
    return found

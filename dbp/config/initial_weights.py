"""The setting `weights`: a source of initial weights, all of which a run takes, or a part under other names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dbp.config.data import path_as_text
from dbp.errors import UserError, unknown_setting
from dbp.text import brief

FROM, ONLY, RENAME = KEYS = ("from", "only", "rename")
FOREIGN = (".npz", ".safetensors", ".pt", ".pth")  # endings of weights that dbp import makes a checkpoint of
EXAMPLE = 'weights = { from = "runs/a", only = ["conv2d_*"] }'


class InitialWeights(NamedTuple):
    """A source of initial weights, and what a run takes of it.

    Args:
        source: a checkpoint or the folder of a run; weights by name; or a TrainedModel.
        only: patterns of the names of the model's weights that are taken; empty for all of them.
        rename: new names by old ones, or by their leading parts, in the order in which they are tried.
    """

    source: Any
    only: tuple[str, ...] = ()
    rename: Mapping[str, str] = {}

    @classmethod
    def of(cls, given: Any) -> InitialWeights:
        """Return what the setting says; raise UserError if it says nothing of that."""
        if is_table(given):
            return cls._of_table({key: path_as_text(value) for key, value in given.items()})
        source = path_as_text(given)
        if not _is_source(source):
            raise UserError(
                "weights must be a checkpoint, the folder of a run, a table of weights or a TrainedModel, but is "
                f"{brief(given)}"
            )
        return cls(_not_foreign("weights", source))

    @classmethod
    def _of_table(cls, table: Mapping[str, Any]) -> InitialWeights:
        for key in table:
            if key not in KEYS:
                raise unknown_setting("key", f"weights.{key}", [f"weights.{name}" for name in KEYS])
        if FROM not in table:
            raise UserError(f"weights.{FROM} is missing; name a checkpoint or the folder of a run, as in {EXAMPLE}")
        source, only, rename = table[FROM], table.get(ONLY, ()), table.get(RENAME, {})
        if not _is_source(source):
            raise UserError(f"weights.{FROM} must be a checkpoint or the folder of a run, but is {brief(source)}")
        if isinstance(only, str) or not _are_texts(only):
            raise UserError(f"weights.{ONLY} must be a list of patterns, as in {EXAMPLE}, but is {brief(only)}")
        if ONLY in table and not only:
            raise UserError(f"weights.{ONLY} is empty; leave it out to take all weights")
        if not isinstance(rename, Mapping) or not _are_texts([*rename, *rename.values()]):
            raise UserError(f"weights.{RENAME} must be a table of new names by old ones, but is {brief(rename)}")
        return cls(_not_foreign(f"weights.{FROM}", source), tuple(only), dict(rename))

    @property
    def path(self) -> str | None:
        """Return the file or folder of the weights; None if they are given themselves."""
        return self.source if isinstance(self.source, str) else None

    @property
    def name(self) -> str:
        """Return what messages call the weights."""
        return "weights" if self.path is None else f"weights {self.path}"

    def with_path(self, path: str) -> InitialWeights:
        """Return the same weights of a file or folder that is written otherwise."""
        return self._replace(source=path)

    def as_value(self, custom: str) -> Any:
        """Return the setting as a config has it, with a digest for weights that are given themselves.

        Args:
            custom: the key of what a config cannot hold.
        """
        source = self.path or {custom: f"weights {_digest(arrays_of(self.source))}"}
        parts = {ONLY: list(self.only), RENAME: dict(self.rename)}
        table = {FROM: source, **{key: value for key, value in parts.items() if value}}
        return table if len(table) > 1 else source


def is_table(given: Any) -> bool:
    """Return True if weights are given as a table that says where they are from, not as arrays by name."""
    return isinstance(given, Mapping) and bool({FROM, ONLY, RENAME}.intersection(given))


def arrays_of(source: Any) -> Mapping[str, Any]:
    """Return the weights by name of a TrainedModel, or of weights that are given by name."""
    arrays: Mapping[str, Any] = source if isinstance(source, Mapping) else source.weights
    return arrays


def _is_source(given: Any) -> bool:
    is_model = isinstance(getattr(given, "weights", None), Mapping) and hasattr(given, "meaning")
    return isinstance(given, (str, Mapping)) or is_model


def _are_texts(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(text, str) and text for text in given)


def _digest(weights: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name}\0{np.asarray(array).dtype}\0".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _not_foreign(key: str, source: Any) -> Any:
    """Return a source of weights; raise UserError for a file that must first become a checkpoint."""
    if isinstance(source, str) and source.endswith(FOREIGN):
        raise UserError(
            f"{key} must be a checkpoint or the folder of a run, but is {source!r}; make a checkpoint of it: "
            f"dbp import {source} CONFIG weights.h5"
        )
    return source

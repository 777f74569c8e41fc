"""The comparison of a run with the one that wrote a checkpoint: settings and data that must be the same to resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbp.config import toml
from dbp.config.settings import Settings
from dbp.data import Meaning, meaning_differences
from dbp.errors import UserError
from dbp.run.stored_settings import stored_table
from dbp.saving.checkpoint_info import CheckpointInfo

# Keys and sections that may differ between a checkpoint and the settings that continue from it.
MAY_DIFFER = ("epochs", "checkpoint", "watch", "divide_state", "early_stopping", "not_finite")


@dataclass(frozen=True)
class Comparison:
    """How a run differs from the one that wrote a checkpoint.

    Args:
        forbidden: a line for each key that must be the same, but differs.
        allowed: a line for each key that differs and may.
    """

    forbidden: Mapping[str, str]
    allowed: Mapping[str, str]

    @classmethod
    def between(
        cls, info: CheckpointInfo, settings: Settings, shards: int, digests: Mapping[str, str], meaning: Meaning
    ) -> Comparison:
        """Compare a checkpoint with settings and data: its digests by purpose, and the meaning of the training data."""
        now = _without_files(stored_table(settings)) | {"shards": shards}
        then = _without_files(info.settings) | {"shards": info.progress["shards"]}
        differences = toml.differences(then, now)
        of_data = [("train", line) for line in meaning_differences(info.meaning, meaning)] + [
            (purpose, f"{purpose} data: other examples now than in the checkpoint")
            for purpose in ("train", "validation")
            if info.progress.get(f"data_{purpose}") != digests.get(purpose)
        ]
        for purpose, line in of_data:
            key = f"data.{purpose}"
            differences[key] = f"{differences[key]}; {line}" if key in differences else line
        allowed = {key: text for key, text in differences.items() if covered(key, MAY_DIFFER)}
        return cls({key: text for key, text in differences.items() if key not in allowed}, allowed)


def covered(key: str, names: Sequence[str]) -> bool:
    """Return True if a key, or a section that it lies in, is among the names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(info: CheckpointInfo, found: Comparison, accept: Sequence[str]) -> None:
    """Raise UserError if the settings describe another run than the checkpoint's, except for accepted keys."""
    forbidden = {key: text for key, text in found.forbidden.items() if not covered(key, accept)}
    if forbidden:
        keys = " ".join(f"--accept {key}" for key in forbidden)
        raise UserError(
            f"checkpoint {info.path} is of another run ({'; '.join(forbidden.values())}); start over with --fresh, "
            f"choose another folder with --out, or continue anyway with {keys}"
        )


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the run's folder and the names of data files, as data is compared by content."""
    purposes = ("train", "validation", "test")
    data = {k: v for k, v in table["data"].items() if not (k in purposes and isinstance(v, str))}
    return {**{key: value for key, value in table.items() if key != "out"}, "data": data}

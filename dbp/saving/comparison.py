"""The comparison of a run with the one that wrote a checkpoint: settings and data that must be the same to resume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbp.config.data import PARTS, is_in_files
from dbp.config.flat_table import differences
from dbp.config.own_code import CODE
from dbp.config.settings import Settings
from dbp.data import Meaning, is_same_but_written_since, meaning_differences
from dbp.errors import UserError
from dbp.run.progress import STOPPED_BY_LISTENER, STOPPED_EARLY
from dbp.run.stored_settings import SOURCES, stored_sources, stored_table
from dbp.saving.checkpoint_info import CheckpointInfo

# Keys and sections that may differ between a checkpoint and the settings that continue from it.
MAY_DIFFER = (
    "epochs",
    "metrics",
    "checkpoint",
    "watch",
    "divide_state",
    "early_stopping",
    "not_finite",
    "log",
    "schedule.epochs",
    "data.memory",
)
OF_ARRAYS = ("model", "dtype", "optimizer.kind", "frozen")  # keys of which the arrays of a checkpoint depend


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
        cls,
        info: CheckpointInfo,
        settings: Settings,
        shards: int,
        digests: Mapping[str, str],
        meaning: Meaning,
        order: str,
    ) -> Comparison:
        """Compare a checkpoint with a run.

        Args:
            info: the checkpoint.
            settings: of the run.
            shards: of a mini-batch.
            digests: of its data, by purpose.
            meaning: of its training data.
            order: of its training examples, in words.
        """
        now = _without_files(stored_table(settings)) | {"shards": shards}
        then = _without_files(info.settings) | {"shards": info.progress["shards"]}
        found = differences(then, now)
        for name in SOURCES:
            was, source = info.progress.get(f"{name}_source"), stored_sources(settings).get(f"{name}_source")
            if was != source and not any(covered(key, (name,)) for key in found):
                found[name] = f"{name}: the source of its function has changed since the checkpoint"
        written = {
            purpose: f"{purpose} data: files written since the checkpoint, but of the same size and sample of rows"
            for purpose in ("train", "validation")
            if is_same_but_written_since(info.progress.get(f"data_{purpose}"), digests.get(purpose))
        }
        of_data = [("train", line) for line in meaning_differences(info.meaning, meaning)] + [
            (purpose, f"{purpose} data: other examples now than in the checkpoint")
            for purpose in ("train", "validation")
            if info.progress.get(f"data_{purpose}") != digests.get(purpose) and purpose not in written
        ]
        if (was := info.progress.get("order", "not known")) != order:
            of_data.append(("order", f"order of the training examples: {was} in the checkpoint, {order} now"))
        for name, line in of_data:
            key = f"data.{name}"
            found[key] = f"{found[key]}; {line}" if key in found else line
        allowed = {key: text for key, text in found.items() if covered(key, MAY_DIFFER)}
        allowed |= {f"data.{purpose}": line for purpose, line in written.items() if f"data.{purpose}" not in found}
        return cls({key: text for key, text in found.items() if not covered(key, MAY_DIFFER)}, allowed)

    def with_jump(self, jump: str) -> Comparison:
        """Return this comparison with another end of the schedule forbidden, if the learning rate would jump.

        Args:
            jump: how it would, and the remedy; "" if it would not.
        """
        keys = [key for key in ("epochs", "schedule.epochs") if key in self.allowed]
        if not (jump and keys):
            return self
        ends = {key: self.allowed[key] for key in keys} | {keys[-1]: f"{self.allowed[keys[-1]]}, {jump}"}
        return Comparison({**self.forbidden, **ends}, {k: text for k, text in self.allowed.items() if k not in keys})


def jump_of_rate(info: CheckpointInfo, settings: Settings, steps: int) -> str:
    """Return how the learning rate would jump as the schedule has another end than in a checkpoint; "" if it does not.

    Args:
        info: the checkpoint.
        settings: those that continue from it.
        steps: of an epoch.
    """
    schedule, step = settings.schedule, info.progress["step"]
    before, now = info.settings.get("schedule", {}).get("epochs") or info.settings["epochs"], settings.epochs
    horizon = schedule.horizon(now)
    if horizon in (None, before) or not 0 < step < now * steps:
        return ""
    moments = ((step - 1, before), (step, before), (step, horizon), (before * steps, before))
    last, kept, moved, final = (schedule.factor(at, end * steps) for at, end in moments)
    if math.isclose(kept, moved):
        return ""
    jump = f"by which the factor of the {schedule.kind} schedule jumps from {last:.2g} to {moved:.2g}"
    if not final:
        return (
            f"{jump}; let it jump with --accept epochs, as with the old end it stays at 0 after epoch {before}, and "
            "nothing more is learned"
        )
    return f"{jump}; keep its end with --set schedule.epochs={before}, after which the factor stays at {final:.2g}"


def may_go_on(info: CheckpointInfo, found: Comparison, settings: Settings) -> bool:
    """Return True if a run that had ended before its last epoch may go on.

    It may if a setting differs that has ended it, if it has more epochs now, or if a listener has stopped it.
    """
    outcome = str(info.progress["outcome"])
    if settings.epochs > info.settings["epochs"] or outcome.startswith(STOPPED_BY_LISTENER):
        return True
    section = "early_stopping" if outcome.startswith(STOPPED_EARLY) else "optimizer"
    return any(covered(key, (section,)) for key in (*found.allowed, *found.forbidden))


def covered(key: str, names: Sequence[str]) -> bool:
    """Return True if a key, or a section that it lies in, is among the names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(info: CheckpointInfo, found: Comparison, accept: Sequence[str], fits: bool | None = None) -> None:
    """Raise UserError if the settings describe another run than the checkpoint's, except for accepted keys.

    Args:
        info: the checkpoint.
        found: how the settings differ from it.
        accept: keys that may differ.
        fits: whether the arrays of the checkpoint are those of the run, without which accepting a key is of no use;
            None if that is not known.
    """
    forbidden = {key: text for key, text in found.forbidden.items() if not covered(key, accept)}
    if forbidden:
        if fits is None:
            fits = not any(covered(key, OF_ARRAYS) for key in forbidden)
        ways = ["start over with --fresh", "choose another folder with --out"]
        if "frozen" in forbidden:
            ways += ["let a new run begin with its weights: another --out, and --set weights=FOLDER"]
        ways += [f"continue anyway with {' '.join(f'--accept {key}' for key in forbidden)}"] if fits else []
        raise UserError(
            f"checkpoint {info.path} is of another run ({'; '.join(forbidden.values())}); {', '.join(ways[:-1])}"
            f"{',' * (len(ways) > 2)} or {ways[-1]}"
        )


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without its folders and the names of data files, as data is compared by content.

    The patterns of frozen parameters are one text, of which none can be accepted without the others.
    """
    data = {k: v for k, v in table["data"].items() if not (k in PARTS and is_in_files(v))}
    patterns = table.get("frozen")
    frozen = {"frozen": ", ".join(map(str, patterns))} if isinstance(patterns, list) and patterns else {}
    others = {key: value for key, value in table.items() if key not in ("out", CODE, "frozen")}
    return {**others, **frozen, "data": data}

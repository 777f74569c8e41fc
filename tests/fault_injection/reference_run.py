"""A small run, its checkpoints when nothing fails, and a comparison of other runs with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dbp.checkpoint import StoredCheckpoint, checkpoints_of, digest_arrays, read
from dbp.errors import UserError

CONFIG = """
loss = "cross_entropy"
epochs = 2
batch_size = 50
shards = 4
seed = 3

[data]
train = "dbp:digits-train"
validation = 0.1

[model]
layers = [
    { kind = "flatten" },
    { kind = "dense", units = 16, activation = "tanh" },
    { kind = "dense", units = 10 },
]

[optimizer]
kind = "adam"
learning_rate = 1e-2

[checkpoint]
every_steps = 10
keep = 100

[early_stopping]
restore_best = true

[watch]
most_starts = 0
"""
TIMES = ("history/seconds",)  # arrays that differ from run to run


def digest_of(checkpoint: StoredCheckpoint) -> str:
    """Return the digest of all that determines how a run resumes: arrays without times, and progress."""
    arrays = {name: array for name, array in checkpoint.arrays() if name not in TIMES}
    still = {name: value for name, value in checkpoint.progress.items() if name not in ("elapsed", "finished")}
    return f"{digest_arrays(arrays)} {sorted(still.items())}"


@dataclass(frozen=True)
class ReferenceRun:
    """A run that met no fault.

    Args:
        digests: of its checkpoints, by step.
        best: of the weights of its best epochs, by step.
        last: its last step.
        half: the folder of one that goes on to it.
    """

    digests: Mapping[int, str]
    best: Mapping[int, str]
    last: int
    half: Path

    @classmethod
    def of(cls, folder: Path, half: Path) -> ReferenceRun:
        """Read the run in a folder."""
        found, best = {}, {}
        for path in checkpoints_of(folder).files():
            checkpoint = read(path)
            found[int(checkpoint.progress["step"])] = digest_of(checkpoint)
            best[int(checkpoint.progress["best_step"])] = digest_arrays(checkpoint.at_best_epoch().model)
        assert len(best) > 1, "no checkpoint holds the weights of an earlier epoch"
        return cls(found, best, max(found), half)

    def is_finished(self, folder: Path) -> bool:
        """Return True if a folder has the last checkpoint."""
        return f"step-{self.last:09d}.h5" in {path.name for path in checkpoints_of(folder).files()}


def _wrong_best(path: Path, reference: ReferenceRun, *, finished: bool) -> str:
    """Return what is wrong with the best weights of a run that met a fault, or ""; see wrong_in()."""
    if not os.path.lexists(path):
        return ""
    if path.is_symlink():  # of somebody else; the run replaces it
        return "loss: best.h5 is a link" if finished else ""
    try:
        best = read(path)
    except UserError as error:
        return f"loss: {error}"
    step = int(best.progress["step"])
    if step in reference.best and digest_arrays(best.model) != reference.best[step]:
        return "wrong bits: in best.h5"
    return f"loss: best.h5 is of step {step}" if finished and step != max(reference.best) else ""


def wrong_in(folder: Path, reference: ReferenceRun, *, finished: bool, clean: bool = False) -> str:
    """Return what is wrong in the folder of a run that met a fault, or "".

    Args:
        folder: of the run.
        reference: what it should be a part of.
        finished: whether it must have come to its end.
        clean: whether nothing may be left of a save that was broken off.
    """
    files = checkpoints_of(folder).files() if folder.exists() else []
    for path in files:
        try:
            checkpoint = read(path)
        except UserError as error:
            return f"loss: {error}"
        step = int(checkpoint.progress["step"])
        if path.name != f"step-{step:09d}.h5":
            return f"wrong bits: {path.name} is of step {step}"
        if step in reference.digests and digest_of(checkpoint) != reference.digests[step]:
            return f"wrong bits: in {path.name}"
    if wrong := _wrong_best(checkpoints_of(folder).best, reference, finished=finished):
        return wrong
    if finished and not (reference.is_finished(folder) and read(files[-1]).progress["finished"]):
        return f"loss: it has ended, but its newest checkpoint is {files[-1].name if files else 'none'}"
    if clean and (left := [*folder.rglob("*.partial"), *folder.rglob(".probe"), *folder.rglob(".lock")]):
        return f"leftovers: {', '.join(path.name for path in left)}"
    return ""

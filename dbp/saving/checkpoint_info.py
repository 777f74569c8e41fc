"""What is known of a run's checkpoint before its arrays are read, and whether the arrays are those of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbp.checkpoint import BEST_GROUP, size_of, table_of
from dbp.config.settings import Settings
from dbp.data import Meaning, parse_meaning
from dbp.errors import DataError
from dbp.run.progress import invalid_attribute
from dbp.run.snapshot import RESIDUALS_WEIGHT
from dbp.run.stored_settings import stored_table

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

MODEL_GROUPS = ("model/", f"{BEST_GROUP}/", "optimizer/")  # groups of arrays whose shapes follow from the model
# For all other arrays together: as many bytes as the numbers of an optimizer take, and so many for each epoch.
MAX_OTHER_BYTES, MAX_EPOCH_BYTES, MAX_EPOCHS = 1 << 26, 1 << 9, 1 << 21


@dataclass(frozen=True)
class CheckpointInfo:
    """The information about a checkpoint without its arrays; the same on every rank.

    Args:
        path: the file.
        settings: the table of its config.
        progress: its counts and sums, by name.
        provenance: what it was made with.
        arrays: types and shapes of its arrays, by name.
        meaning: what the numbers of the training data mean.
    """

    path: Path
    settings: Mapping[str, Any]
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]
    meaning: Meaning

    @classmethod
    def of(cls, found: Opened) -> CheckpointInfo:
        """Return the info of an open checkpoint; raise DataError if no run has written it."""
        arrays = {name: (entry.dtype, entry.shape) for name, entry in found.entries.items()}
        try:
            settings, meaning = table_of(found.config), parse_meaning(found.meaning)
        except DataError as error:
            raise DataError(f"checkpoint {found.path} was not made by a run: {error}") from None
        if reason := _not_of_a_run(settings, found.progress, arrays):
            raise DataError(f"checkpoint {found.path} was not made by a run: {reason}")
        return cls(found.path, settings, found.progress, found.provenance, arrays, meaning)

    def has_loss_of(self, settings: Settings) -> bool:
        """Return True if the run that wrote the checkpoint had the same settings of the loss."""
        return bool(self.settings.get("loss") == stored_table(settings)["loss"])


def peek(settings: Settings) -> CheckpointInfo | None:
    """Return what is known of the run's newest sound checkpoint, without reading arrays; None if there is none.

    Raises:
        DataError: there are checkpoints, but none is sound.
    """
    if settings.out is None:
        return None
    from dbp.checkpoint import CheckpointFolder, Keep

    passed_over: list[str] = []
    folder = CheckpointFolder(Path(settings.out) / "checkpoints", Keep(1))
    with folder.newest(_check_made_by_a_run, verify=False) as newest:
        if newest.found is not None:
            return CheckpointInfo.of(newest.found)
        passed_over += newest.passed_over.values()
    if passed_over:
        raise no_whole_checkpoint(settings, passed_over)
    return None


def _check_made_by_a_run(found: Opened) -> None:
    """Raise DataError if no run has written a checkpoint."""
    CheckpointInfo.of(found)


def no_whole_checkpoint(settings: Settings, passed_over: Sequence[str]) -> DataError:
    """Return the error for checkpoints none of which can be used."""
    return DataError(
        f"{settings.out} holds checkpoints, but none of them is intact; start over with --fresh "
        f"({'; '.join(passed_over)})"
    )


def check_arrays(info: CheckpointInfo, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> str | None:
    """Return why the arrays of a checkpoint are not those of a run; None if they are.

    Args:
        info: the checkpoint.
        expected: types and shapes that arrays of the model and of the optimizer must have, by name.
    """
    for name, (dtype, shape) in info.arrays.items():
        if name.startswith(MODEL_GROUPS) and expected.get(name) != (dtype, shape):
            here = "nothing of that name" if name not in expected else f"{expected[name][0]} {expected[name][1]}"
            return f"{name} is {dtype} {shape} in the checkpoint, but this run has {here}"
    missing = [name for name in expected if name not in info.arrays]
    return f"it lacks {missing[0]}, which this run has" if missing else None


def _factors_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the most bytes that K-FAC's numbers take for a parameter: two factors with their inverses, or squares."""
    *rows, columns = shape or (1,)
    return size_of(dtype, shape) + 2 * sum(size_of(dtype, (n, n)) for n in (math.prod(rows) + 1, columns))


def _not_of_a_run(settings: Mapping[str, Any], progress: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """Return what no run would have written; None if nothing is wrong."""
    if not isinstance(settings.get("data"), dict) or type(settings.get("threads")) is not int:
        return "its config has no data or no threads"
    if type(shards := progress.get("shards")) is not int or shards < 1:
        return f"its number of shards is {shards!r}"
    if reason := invalid_attribute(progress):
        return reason
    if type(weight := progress.get(RESIDUALS_WEIGHT, 1.0)) is not float or not 0 < abs(weight) < math.inf:
        return f"its {RESIDUALS_WEIGHT} is {weight!r}"
    others = {name: array for name, array in arrays.items() if not name.startswith(MODEL_GROUPS)}
    most = MAX_OTHER_BYTES + MAX_EPOCH_BYTES * min(progress["epoch"], MAX_EPOCHS)
    if isinstance(optimizer := settings.get("optimizer"), dict) and optimizer.get("kind") == "kfac":
        most += sum(_factors_bytes(*array) for name, array in arrays.items() if name.startswith("model/"))
    if (size := sum(size_of(*array) for array in others.values())) > most:
        return f"its history and numbers take {size:,} bytes"
    wrong = (name for name, (_, shape) in others.items() if name.startswith("history/") and len(shape) != 1)
    return next((f"{name} is no column" for name in wrong), None)

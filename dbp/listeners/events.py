"""The events of a run that listeners are called with: frozen records of numbers and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Start:
    """The start of a run, before its first step.

    Args:
        ranks: how many train.
        parameters: of the model, trained and frozen.
        epochs: the run's number of epochs.
        steps: mini-batches of an epoch.
        epoch: complete epochs, of an earlier start that this one resumes; else 0.
        step: steps so far, likewise.
        epoch_end: the step at the end of the last complete epoch; 0 without one.
        folder: of the run; None if it has none.
        settings: all settings by their full keys, such as "optimizer.learning_rate".
    """

    ranks: int
    parameters: int
    epochs: int
    steps: int
    epoch: int
    step: int
    epoch_end: int
    folder: Path | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """The end of a step.

    Args:
        step: steps so far, this one included.
        epoch: the number of the epoch that it belongs to, counted from 1.
        examples: of its mini-batch, over all ranks.
        seconds: of training so far, over all starts.
        values: cost and metrics of the mini-batch, before the update, and the last learning_rate (or step_length).
    """

    step: int
    epoch: int
    examples: int
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch, after its validation.

    Args:
        epoch: complete epochs, this one included.
        step: steps so far.
        values: the epoch's row of the history: cost, metrics, validation_cost, learning_rate and so on.
        is_best: whether it is the best epoch so far.
    """

    epoch: int
    step: int
    values: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint, which is whole and on the disk.

    Args:
        step: the step after which the run was in this state.
        path: the file.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class End:
    """The end of a run, or of this start of it.

    Args:
        outcome: "finished", why it ended before its last epoch, or "stopped", "interrupted" or "failed".
        epoch: complete epochs.
        step: steps so far.
        values: cost and metrics on the test data; empty without such data, and unless the run was finished.
        error: the message of what ended it, if it failed; else "".
    """

    outcome: str
    epoch: int
    step: int
    values: Mapping[str, float]
    error: str = ""


Event = Start | Step | Epoch | CheckpointWritten | End


class Values(Mapping[str, float]):
    """Numbers by name that are computed when the first of them is read, as those of many steps never are.

    Args:
        compute: returns the numbers.
    """

    def __init__(self, compute: Callable[[], Mapping[str, float]]):
        self._compute = compute

    @cached_property
    def _computed(self) -> Mapping[str, float]:
        return self._compute()

    def __getitem__(self, name: str) -> float:
        return self._computed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._computed)

    def __len__(self) -> int:
        return len(self._computed)

    def __repr__(self) -> str:
        return repr(dict(self))


def read_only(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy of a mapping that cannot be changed."""
    return MappingProxyType(dict(values))

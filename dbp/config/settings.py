"""What a run is: all that decides its result, checked. Configs and Python calls both end up here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.checks import check_at_least, check_between_0_and_1, is_integer
from dbp.data import ArrayDataset, Dataset
from dbp.errors import UserError, unknown
from dbp.nn import Loss, Model, as_loss, as_model
from dbp.optim import Constant, Method, Schedule

DTYPES = ("float32", "float64")
TOP_K = "top-k"
MESSAGES = ("full", "bfloat16", "float16", TOP_K)
KEPT = 0.01  # of a message's numbers, by default
AUTO = "auto"
STOP, SKIP, ROLL_BACK = NOT_FINITE_ACTIONS = ("stop", "skip", "roll_back")


def _in_memory(columns: tuple[Any, ...], name: str, scale: float | None) -> Dataset:
    if len(columns) not in (2, 3):
        raise UserError(
            f"{name} must be (inputs, targets) or (inputs, targets, weights), but are {len(columns)} things"
        )
    inputs, targets, weights = (*columns, None)[:3]
    return ArrayDataset(inputs, targets, weights, scale, name)


@dataclass(frozen=True)
class Data:
    """Where the examples come from.

    Args:
        train: an HDF5 file ("dbp:digits-train" and the like come with dbp), a data set, or a tuple of
            arrays (inputs, targets) or (inputs, targets, weights).
        validation: a part of the training data between 0 and 1, or data of its own; evaluated every epoch.
        test: data that is evaluated once, at the end.
        inputs: name of the inputs in the HDF5 files.
        targets: name of the targets.
        weights: name of the weights; by default "weights" where there is such a data set.
        scale: inputs are multiplied by this; by default by the attribute "scale" of the inputs.
    """

    train: str | Dataset | tuple[Any, ...]
    validation: float | str | Dataset | tuple[Any, ...] | None = None
    test: str | Dataset | tuple[Any, ...] | None = None
    inputs: str = "inputs"
    targets: str = "targets"
    weights: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if isinstance(columns := getattr(self, name), tuple):
                object.__setattr__(self, name, _in_memory(columns, f"the {name} arrays", self.scale))
        if isinstance(self.validation, (int, float)) and not 0 < self.validation < 1:
            raise UserError(f"validation must be a file or a part between 0 and 1, but is {self.validation}")


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are written, besides the run's end, and which are kept; 0 means never.

    Args:
        every_epochs: after every so many epochs.
        every_steps: after every so many steps.
        keep: so many of the newest are kept,
        keep_every: and those whose step is a multiple of this,
        best: and the best by this column of the history, such as "validation_accuracy"; "" for none. One is written
            after each epoch that is better than all before.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 3
    keep_every: int = 0
    best: str = ""

    def __post_init__(self) -> None:
        check_at_least(0, every_epochs=self.every_epochs, every_steps=self.every_steps, keep_every=self.keep_every)
        check_at_least(1, keep=self.keep)

    def due_after_step(self, step: int) -> bool:
        """Whether to save when so many steps are done."""
        return self.every_steps > 0 and step % self.every_steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        """Whether to save when so many epochs are done."""
        return self.every_epochs > 0 and epoch % self.every_epochs == 0


@dataclass(frozen=True)
class EarlyStopping:
    """When a run ends before its last epoch.

    Args:
        patience: after more than so many epochs without a better value; 0 for never.
        metric: column of the history that is looked at; by default the cost, of the validation data if there are any.
        least_change: by which a value must be better than the best so far to count.
    """

    patience: int = 0
    metric: str = ""
    least_change: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(0, patience=self.patience, least_change=self.least_change)


@dataclass(frozen=True)
class Watch:
    """How a run is watched over; 0 means never.

    Args:
        compare_every_steps: the nodes compare their weights after every so many steps, and before each checkpoint.
        warn_after: seconds of waiting for a rank, after which it is named with what it does.
        end_after: seconds of waiting after which all ranks are ended.
        most_starts: so often a run may start from the same step without coming to its next checkpoint.
        least_ranks: as long as so many ranks live, a run that can outlive ranks goes on without the others.
        recover_within: seconds in which they must have come together.
    """

    compare_every_steps: int = 100
    warn_after: float = 60.0
    end_after: float = 1800.0
    most_starts: int = 3
    least_ranks: int = 1
    recover_within: float = 60.0

    def __post_init__(self) -> None:
        check_at_least(0, compare_every_steps=self.compare_every_steps, most_starts=self.most_starts)
        check_at_least(0, warn_after=self.warn_after, end_after=self.end_after)
        check_at_least(1, least_ranks=self.least_ranks, recover_within=self.recover_within)

    def due_after_step(self, step: int) -> bool:
        """Whether to compare when so many steps are done."""
        return self.compare_every_steps > 0 and step % self.compare_every_steps == 0


@dataclass(frozen=True)
class NotFinite:
    """What a run does after a step whose cost or gradient is not finite.

    Args:
        action: "stop" the run with a report; "skip" the step; or "roll_back" to the last checkpoint and continue with a
            smaller learning rate.
        skip_at_most: steps that may be skipped in a row; the run stops at the next.
        factor: on the learning rate at each rollback.
        at_most: rollbacks until the run has passed the failed step; the run stops at the next.
    """

    action: str = STOP
    skip_at_most: int = 10
    factor: float = 0.5
    at_most: int = 5

    def __post_init__(self) -> None:
        if self.action not in NOT_FINITE_ACTIONS:
            raise unknown("action", self.action, NOT_FINITE_ACTIONS)
        check_at_least(1, skip_at_most=self.skip_at_most, at_most=self.at_most)
        check_between_0_and_1(factor=self.factor)

    @property
    def rolls_back(self) -> bool:
        """Return True if the run needs checkpoints to roll back to."""
        return self.action == ROLL_BACK


@dataclass(frozen=True)
class Settings:
    """A run.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name.
        data: a Data, or what its `train` takes.
        optimizer: the method, with its settings.
        epochs: passes over the training data.
        batch_size: examples in a mini-batch, over all ranks.
        schedule: of the learning rate.
        weights: what the run begins with, by default drawn at random: a checkpoint, another run's folder for its newest
            one, or weights by name as a Result has them.
        shards: parts of a mini-batch; by default the number of ranks of the run's first start.
        seed: of everything random.
        dtype: float32 or float64.
        threads: BLAS threads of a rank (their number changes the bits); "auto" for as many as each rank has
            cores at the run's first start.
        divide_state: whether the optimizer's vectors are divided among all nodes instead of kept on each (ZeRO-1);
            less memory, the same bits.
        messages: in what form gradients travel between nodes: "full", or rounded to "bfloat16" or "float16", so that
            half as many bytes are sent, or the largest numbers alone, "top-k"; the bits then depend on the nodes.
        messages_kept: the part of the numbers that is sent with "top-k", by default 0.01; the others are added to what
            is to be sent in the next step.
        out: the folder for the run's files; None to write none.
        checkpoint: when to save.
        watch: how the run is watched over.
        early_stopping: when it ends before its last epoch.
        not_finite: what happens if a cost or gradient is not finite.
    """

    model: Model
    loss: Loss
    data: Data
    optimizer: Method
    epochs: int
    batch_size: int
    schedule: Schedule = field(default_factory=Constant)
    weights: str | Mapping[str, Any] | None = None
    shards: int | None = None
    seed: int = 0
    dtype: str = "float32"
    threads: int | str = 1
    divide_state: bool = False
    messages: str = "full"
    messages_kept: float | None = None
    out: str | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    watch: Watch = field(default_factory=Watch)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    not_finite: NotFinite = field(default_factory=NotFinite)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_model(self.model))
        object.__setattr__(self, "loss", as_loss(self.loss))
        if not isinstance(self.data, Data):
            object.__setattr__(self, "data", Data(self.data))
        check_at_least(0, epochs=self.epochs, seed=self.seed)
        check_at_least(1, batch_size=self.batch_size)
        if self.threads != AUTO:
            if not is_integer(self.threads):
                raise UserError(f"threads must be a whole number or {AUTO!r}, but is {self.threads!r}")
            check_at_least(1, threads=int(self.threads))
        if self.shards is not None:
            check_at_least(1, shards=self.shards)
        self._check_numbers()
        if self.schedule != Constant() and not self.optimizer.is_first_order:
            raise UserError(f"schedule is of learning rates, of which {self.optimizer.kind!r} has none; leave it out")
        self._check_top_k()
        self._check_not_finite()

    def _check_not_finite(self) -> None:
        """Raise UserError if optimizer or folder do not allow the action."""
        action = self.not_finite.action
        if action != STOP and not self.optimizer.is_first_order:
            raise UserError(
                f"not_finite.action must be {STOP!r} with {self.optimizer.kind!r}, which looks for another step "
                f"itself, but is {action!r}; leave it out"
            )
        if self.not_finite.rolls_back and self.out is None:
            raise UserError(
                f"not_finite.action = {ROLL_BACK!r} needs checkpoints to roll back to, but out is None; "
                "set it to a folder"
            )

    def _check_numbers(self) -> None:
        """In what form they are kept and sent."""
        for what, value, valid in (("dtype", self.dtype, DTYPES), ("form of messages", self.messages, MESSAGES)):
            if value not in valid:
                raise unknown(what, value, valid)
        if self.messages != "full" and self.dtype != "float32":
            raise UserError(f'messages must be "full" with dtype {self.dtype}, but is {self.messages!r}')

    def _check_top_k(self) -> None:
        """How many numbers are sent, and that the method can do with that."""
        if self.messages != TOP_K:
            if self.messages_kept is not None:
                raise UserError(
                    f'messages_kept is of messages = "{TOP_K}", but they are {self.messages!r}; leave it out'
                )
            return
        kept = KEPT if self.messages_kept is None else self.messages_kept
        if not 0 < kept < 1:
            raise UserError(f"messages_kept must be above 0 and below 1, but is {kept}")
        object.__setattr__(self, "messages_kept", kept)
        if not self.optimizer.is_first_order:
            kind, others = self.optimizer.kind, ", ".join(f'"{form}"' for form in MESSAGES if form != TOP_K)
            raise UserError(f'messages must not be "{TOP_K}" with {kind!r}, which needs whole gradients; take {others}')

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Settings by name; UserError for a name that there is not, or one that is missing."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise unknown("setting", name, fields)
        for name, f in fields.items():
            if name not in values and f.default is f.default_factory is dataclasses.MISSING:
                raise UserError(f"{name} is missing; a run needs it")
        return cls(**values)

    @property
    def thread_count(self) -> int:
        """The number of threads, which must be settled by now."""
        assert isinstance(self.threads, int)
        return self.threads

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as NumPy's."""
        return np.dtype(self.dtype)

"""The settings of a run, checked. Config files and Python calls both become Settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.checks import LARGEST, check_at_least, check_between_0_and_1, check_integer, is_integer
from dbp.config.data import Data, check_standardized_targets, path_as_text
from dbp.errors import UserError, unknown, unknown_setting
from dbp.kernels import KERNELS, NATIVE
from dbp.nn import Model, as_loss, as_model, losses_by_target
from dbp.optim import Constant, Optimizer, Schedule, as_optimizer, as_schedule
from dbp.text import brief

DTYPES = ("float32", "float64")
TOP_K = "top-k"
# The forms of gradients between nodes: all numbers, those that parallel.ranks.wire rounds, and the largest alone.
MESSAGES = ("full", "bfloat16", "float16", TOP_K)
DEFAULT_KEPT = 0.01  # the fraction of a gradient's elements in a top-k message
AUTO_THREADS = "auto"
FULL_BATCH = "all"
# Bounds far above all that is of use, within which all counts of a run remain whole numbers of 64 bits.
MAX_EPOCHS, MAX_BATCH_SIZE, MAX_SHARDS, MAX_THREADS = 10**9, 10**9, 1 << 16, 1 << 10
STOP, SKIP, ROLL_BACK = NOT_FINITE_ACTIONS = ("stop", "skip", "roll_back")


def _by_key(section: str, settings: object, *names: str) -> dict[str, Any]:
    """Return settings of a section by their full keys, which messages name."""
    return {f"{section}.{name}": getattr(settings, name) for name in names}


@dataclass(frozen=True)
class Checkpoint:
    """The times at which a run writes checkpoints, besides its end, and those that it keeps.

    Args:
        every_epochs: epochs from one checkpoint to the next; 0 for none.
        every_steps: steps from one checkpoint to the next; 0 for none.
        keep: how many of the newest are kept.
        keep_every: checkpoints whose step is a multiple of this are kept besides; 0 for none.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 3
    keep_every: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, **_by_key("checkpoint", self, "every_epochs", "every_steps", "keep_every"))
        check_at_least(1, **_by_key("checkpoint", self, "keep"))

    def due_after_step(self, step: int) -> bool:
        """Return True if a checkpoint is due after so many steps."""
        return self.every_steps > 0 and step % self.every_steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        """Return True if a checkpoint is due after so many epochs."""
        return self.every_epochs > 0 and epoch % self.every_epochs == 0


@dataclass(frozen=True)
class EarlyStopping:
    """The conditions under which a run ends before its last epoch, and whether its best weights are its result.

    Args:
        patience: how many epochs in a row without a better value end the run; 0 for no number.
        metric: the column of the history that decides which epoch is better, such as "validation_accuracy"; by default
            the cost, on validation data if there is any.
        least_change: how much better than the best so far a value must be to count for patience.
        restore_best: whether the weights of the best epoch are kept, and are the result; by default if there is a
            patience.
    """

    patience: int = 0
    metric: str = ""
    least_change: float = 0.0
    restore_best: bool | None = None

    def __post_init__(self) -> None:
        check_at_least(0, **_by_key("early_stopping", self, "patience", "least_change"))
        if not isinstance(self.restore_best, (bool, type(None))):
            raise UserError(f"early_stopping.restore_best must be true or false, but is {brief(self.restore_best)}")

    @property
    def keeps_best(self) -> bool:
        """Return True if the weights of the best epoch are kept."""
        return self.patience > 0 if self.restore_best is None else self.restore_best


@dataclass(frozen=True)
class Watch:
    """The checks for nodes that differ and for ranks that hang or die.

    Args:
        compare_every_steps: steps after which nodes compare their weights, as they do before each checkpoint; 0 for
            never.
        warn_after: seconds of waiting for a rank after which a warning says what the rank does; 0 for never.
        end_after: seconds of waiting for a rank after which the job ends; 0 for never.
        most_starts: starts from the same step without reaching its next checkpoint that are allowed; 0 for any number.
        least_ranks: how many ranks must live for a run to continue under fault tolerance.
        recover_within: seconds in which the living ranks must come together.
    """

    compare_every_steps: int = 100
    warn_after: float = 60.0
    end_after: float = 1800.0
    most_starts: int = 3
    least_ranks: int = 1
    recover_within: float = 60.0

    def __post_init__(self) -> None:
        for name in ("warn_after", "end_after"):
            if getattr(self, name) == math.inf:
                raise UserError(f"watch.{name} must be finite, but is inf; take 0 for never")
        check_at_least(0, **_by_key("watch", self, "compare_every_steps", "most_starts", "warn_after", "end_after"))
        check_at_least(1, **_by_key("watch", self, "least_ranks", "recover_within"))

    def due_after_step(self, step: int) -> bool:
        """Return True if nodes compare their weights after so many steps."""
        return self.compare_every_steps > 0 and step % self.compare_every_steps == 0


@dataclass(frozen=True)
class NotFinite:
    """The policy for steps whose cost or gradient is not finite.

    Args:
        action: "stop" the run with a report; "skip" the step; or "roll_back" to the last checkpoint and continue with a
            smaller learning rate.
        skip_at_most: how many steps in a row may be skipped; one more stops the run.
        factor: factor on the learning rate at each rollback.
        at_most: how often the run may roll back before it has passed the failed step; one more stops it.
    """

    action: str = STOP
    skip_at_most: int = 10
    factor: float = 0.5
    at_most: int = 5

    def __post_init__(self) -> None:
        if self.action not in NOT_FINITE_ACTIONS:
            raise unknown("not_finite.action", self.action, NOT_FINITE_ACTIONS)
        check_at_least(1, **_by_key("not_finite", self, "skip_at_most", "at_most"))
        check_between_0_and_1(**_by_key("not_finite", self, "factor"))

    @property
    def rolls_back(self) -> bool:
        """Return True if the run needs checkpoints to roll back to."""
        return self.action == ROLL_BACK


@dataclass(frozen=True)
class Log:
    """The logs of its numbers that a run writes to its folder, besides history.csv.

    Args:
        tensorboard: write event files for TensorBoard, in tensorboard/.
        json: write each event as a line of JSON, to events.jsonl.
        csv: write the numbers of steps to steps.csv.
        every: steps from one entry to the next; 0 for none, so that only epochs are written.
    """

    tensorboard: bool = False
    json: bool = False
    csv: bool = False
    every: int = 10

    def __post_init__(self) -> None:
        check_at_least(0, **_by_key("log", self, "every"))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the logs that are written."""
        return tuple(name for name in ("tensorboard", "json", "csv") if getattr(self, name))


SECTIONS: dict[str, type[Any]] = {
    "data": Data,
    "checkpoint": Checkpoint,
    "watch": Watch,
    "early_stopping": EarlyStopping,
    "not_finite": NotFinite,
    "log": Log,
}


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name; of several targets, one for each by the target's name, as such or as a table with
            `kind`, settings and `weight`.
        data: a Data, or the value of its `train`.
        optimizer: the optimizer, with its settings, or its name.
        epochs: passes over the training data.
        batch_size: examples in a mini-batch, over all ranks; "all" for all training examples.
        schedule: the schedule of the learning rate, or its name.
        metrics: what is reported beside the cost: metrics of dbp.metrics, or their names; by default the loss's. Of
            several targets, a list for each by name, or one of which each has those that fit.
        weights: the initial weights: a checkpoint, another run's folder for its best epoch, else its newest one, or a
            TrainedModel; of a table {"from", "only", "rename"} a part of them; by default they are drawn at random.
        frozen: patterns of the names of parameters that are not trained, such as ["conv2d_*"].
        shards: parts of a mini-batch; by default the number of ranks at the run's first start.
        seed: the seed of everything random.
        dtype: "float32" or "float64".
        kernels: "native" for the fastest routines of each processor, or "x86-64-v3" for those of all with AVX2.
        threads: BLAS threads of a rank, whose number changes the bits; "auto" for one per core that the rank has at the
            run's first start.
        divide_state: divide the optimizer's vectors among all nodes instead of keeping them on each (ZeRO-1); takes
            less memory, and gives the same bits.
        messages: the form of gradients between nodes: "full"; "bfloat16" or "float16" for half as many bytes; or
            "top-k" for the largest elements alone. With all but "full" the bits depend on the nodes.
        messages_kept: the fraction of elements that "top-k" sends, by default 0.01; the others are added to the
            gradient of the next step.
        out: the folder for the run's files; None to write none.
        checkpoint: when checkpoints are written, and which are kept.
        watch: how the run is watched for nodes that differ and for ranks that hang or die.
        early_stopping: when the run ends before its last epoch.
        not_finite: what happens if a cost or gradient is not finite.
        log: the logs that are written for other programs.
    """

    model: Model
    loss: Any
    data: Data
    optimizer: Optimizer
    epochs: int
    batch_size: int | str
    schedule: Schedule = field(default_factory=Constant)
    metrics: Any = None
    weights: Any = None
    frozen: Sequence[str] = ()
    shards: int | None = None
    seed: int = 0
    dtype: str = "float32"
    kernels: str = NATIVE
    threads: int | str = 1
    divide_state: bool = False
    messages: str = "full"
    messages_kept: float | None = None
    out: str | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    watch: Watch = field(default_factory=Watch)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    not_finite: NotFinite = field(default_factory=NotFinite)
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_model(self.model))
        object.__setattr__(self, "loss", as_loss(self.loss))
        for name in ("out", "weights"):
            object.__setattr__(self, name, path_as_text(getattr(self, name)))
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        if not isinstance(self.data, Data):
            object.__setattr__(self, "data", Data(self.data))
        self._check_metrics()
        self._check_parameters()
        self._check_counts()
        self._check_sections()
        self._check_types()
        if self.schedule != Constant() and not self.optimizer.is_first_order:
            kind = self.optimizer.kind
            raise UserError(f"optimizer {kind!r} has no learning rate, so it takes no schedule; leave it out")
        check_standardized_targets(self.data, [*losses_by_target(self.loss).values()])
        self._check_top_k()
        self._check_not_finite()
        if self.log.names and self.out is None:
            raise UserError(f"log.{self.log.names[0]} is written to the run's folder, but out is None; set it to one")

    def _check_metrics(self) -> None:
        """Turn metrics given by name into metrics; raise UserError unless the loss has targets for them."""
        if self.metrics is not None:
            from dbp.metrics.registry import metrics_for  # which a run with the metrics of its loss does not need

            object.__setattr__(self, "metrics", metrics_for(self.metrics, self.loss))

    def _check_counts(self) -> None:
        """Turn whole numbers of NumPy into Python's; raise UserError for others, and those out of their bounds."""
        words: dict[str, str | None] = {"batch_size": FULL_BATCH, "threads": AUTO_THREADS, "shards": None}
        for name, least, most in (
            ("epochs", 0, MAX_EPOCHS),
            ("batch_size", 1, MAX_BATCH_SIZE),
            ("seed", 0, LARGEST),
            ("threads", 1, MAX_THREADS),
            ("shards", 1, MAX_SHARDS),
        ):
            value = getattr(self, name)
            if name in words and isinstance(value, (str, type(None))) and value == words[name]:
                continue
            if words.get(name) and not is_integer(value):
                raise UserError(f"{name} must be a whole number or {words[name]!r}, but is {brief(value)}")
            object.__setattr__(self, name, check_integer(name, value, least, most))

    def _check_not_finite(self) -> None:
        """Raise UserError if the optimizer, or a run without a folder, does not allow the action of not_finite."""
        action = self.not_finite.action
        if action != STOP and not self.optimizer.is_first_order:
            raise UserError(
                f"not_finite.action must be {STOP!r} with optimizer {self.optimizer.kind!r}, which shortens its step "
                f"itself, but is {action!r}; leave it out"
            )
        if self.not_finite.rolls_back and self.out is None:
            raise UserError(
                f"not_finite.action = {ROLL_BACK!r} needs checkpoints to roll back to, but out is None; "
                "set it to a folder"
            )

    def _check_sections(self) -> None:
        """Raise UserError unless the sections are objects of their classes, and the names of files text."""
        for name, section in SECTIONS.items():
            if not isinstance(value := getattr(self, name), section):
                raise UserError(f"{name} must be a dbp.{section.__name__}(...), but is {value!r}")
        if not isinstance(self.out, (str, type(None))):
            raise UserError(f"out must be the name of a file or folder, but is {self.out!r}")

    def _check_parameters(self) -> None:
        """Raise UserError unless initial weights and frozen parameters are named as they can be."""
        if self.weights is not None:
            from dbp.config.initial_weights import InitialWeights  # which a run without them does not need

            InitialWeights.of(self.weights)
        if not isinstance(self.frozen, (list, tuple)) or {*map(type, self.frozen)} - {str}:
            raise UserError(f'frozen must be a list of patterns, such as ["conv2d_*"], but is {brief(self.frozen)}')
        object.__setattr__(self, "frozen", tuple(self.frozen))

    def _check_types(self) -> None:
        """Raise UserError unless dtype, kernels and messages are known and fit together."""
        known = (("dtype", self.dtype, DTYPES), ("kernels", self.kernels, KERNELS))
        for what, value, valid in (*known, ("form of messages", self.messages, MESSAGES)):
            if not isinstance(value, str) or value not in valid:
                raise unknown(what, value, valid)
        if self.messages != "full" and self.dtype != "float32":
            raise UserError(f'messages must be "full" with dtype {self.dtype}, but is {self.messages!r}')

    def _check_top_k(self) -> None:
        """Fill in messages_kept; raise UserError if it, or the optimizer, does not fit the form of messages."""
        if self.messages != TOP_K:
            if self.messages_kept is not None:
                raise UserError(
                    f'messages_kept needs messages = "{TOP_K}", but messages is {self.messages!r}; leave it out'
                )
            return
        kept = DEFAULT_KEPT if self.messages_kept is None else self.messages_kept
        if not 0 < kept < 1:
            raise UserError(f"messages_kept must be above 0 and below 1, but is {kept}")
        object.__setattr__(self, "messages_kept", kept)
        if not self.optimizer.is_first_order:
            kind, others = self.optimizer.kind, ", ".join(f'"{form}"' for form in MESSAGES if form != TOP_K)
            raise UserError(f'messages must not be "{TOP_K}" with {kind!r}, which needs whole gradients; take {others}')

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Return settings by name; raise UserError for an unknown name, or one that is missing."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise unknown_setting("setting", name, fields)
        for name, f in fields.items():
            if name not in values and f.default is f.default_factory is dataclasses.MISSING:
                raise UserError(f"{name} is missing; a run needs it")
        return cls(**values)

    def examples_per_step(self, examples: int) -> int:
        """Return the batch size as a number.

        Args:
            examples: number of training examples.
        """
        return examples if self.batch_size == FULL_BATCH else int(self.batch_size)

    @property
    def thread_count(self) -> int:
        """Return the number of threads; "auto" must have been replaced by now."""
        assert isinstance(self.threads, int)
        return self.threads

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Return the dtype as NumPy's."""
        return np.dtype(self.dtype)

"""What metrics see: a model's outputs for some examples beside their targets, and what the targets of a loss are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dbp.nn import ANSWERS, Loss, classes_of
from dbp.types import Array

Shape = tuple[int, ...]


class Predictions:
    """The outputs for some examples beside their targets; what several metrics need of them is computed once.

    Outputs and targets of numbers are in the units of the data.

    Args:
        outputs: of the model, (examples, *positions, numbers) or (examples,).
        targets: as the loss prepares them.
        example_weights: (examples,), or with more of the axes of a loss; None if all are 1.
    """

    def __init__(self, outputs: Array, targets: Array, example_weights: Array | None = None):
        self.outputs, self.targets, self.example_weights = outputs, targets, example_weights

    @cached_property
    def wide_weights(self) -> Array:
        """Return the example weights in float64; there must be some."""
        assert self.example_weights is not None
        return self.example_weights.astype(np.float64)

    def weights_of(self, shape: Shape) -> Array | None:
        """Return a weight for each element of an array (examples, ...) in float64; None if all are 1."""
        if self.example_weights is None:
            return None
        weights = self.wide_weights
        return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)

    # --- one class out of several ----------------------------------------------------------------------

    @cached_property
    def largest(self) -> Array:
        """Return the largest output, (examples, *positions)."""
        return np.asarray(np.maximum.reduce(self.outputs, axis=-1))

    @cached_property
    def predicted_classes(self) -> Array:
        """Return the class of the largest output (examples, *positions); -1 where that is not finite."""
        return classes_of(self.outputs, self.largest)

    @cached_property
    def of_target_class(self) -> Array:
        """Return the output of the target's class, (examples, *positions)."""
        classes = self.target_classes
        rows = self.outputs.reshape(-1, self.outputs.shape[-1])
        return rows[np.arange(len(rows)), classes.reshape(-1)].reshape(classes.shape)

    @cached_property
    def positions_in_order(self) -> Array:
        """Return how many outputs are larger than that of the target's class, (examples, *positions).

        Of equal outputs, that of the class with the higher number counts as the larger one, as in scikit-learn. Where
        outputs are not finite, all are.
        """
        own = self.of_target_class[..., None]
        at_least = np.add.reduce(self.outputs >= own, axis=-1, dtype=np.intp)
        equal = self.outputs == own
        if np.count_nonzero(equal) > at_least.size:  # there are ties
            lower = equal & (np.arange(self.outputs.shape[-1]) < self.target_classes[..., None])
            at_least = at_least - np.add.reduce(lower, axis=-1, dtype=np.intp)
        return np.asarray(np.where(self.predicted_classes >= 0, at_least - 1, self.outputs.shape[-1]))

    @cached_property
    def target_classes(self) -> Array:
        """Return the class of each target, or the most probable one of it, (examples, *positions)."""
        return self.targets if self.targets.ndim < self.outputs.ndim else np.argmax(self.targets, axis=-1)

    @cached_property
    def right_classes(self) -> Array:
        """Return where the predicted class is that of the target, (examples, *positions).

        Most runs ask for nothing else, in every step, so this takes less time than predicted_classes.
        """
        right = np.asarray(self.outputs.argmax(-1) == self.target_classes)
        flat = self.outputs.reshape(-1)
        if not math.isfinite(flat.dot(flat)):  # else all outputs are
            right &= np.isfinite(self.largest)
        return right

    # --- answers yes or no -----------------------------------------------------------------------------

    @cached_property
    def target_answers(self) -> Array:
        """Return where the target is yes: more than one half."""
        return np.asarray(self.targets > 0.5)

    @cached_property
    def right_answers(self) -> Array:
        """Return where the probability lies on the target's side of one half, and the output is finite."""
        return np.asarray(((self.outputs > 0) == self.target_answers) & np.isfinite(self.outputs))


@dataclass(frozen=True)
class TargetForm:
    """What the targets of a run are, to which its metrics are fitted.

    Args:
        loss: the kind of the loss, for messages.
        kind: CLASSES, ANSWERS or NUMBERS; "" if the loss does not say it.
        count: of the classes, or of the answers or numbers along the last axis; 0 where that is not asked for.
        names: of these, if they are known.
        sample: outputs of zeros beside the first target of the data, from which a metric of one's own shows its
            sums; None if no metric needs it.
    """

    loss: str
    kind: str = ""
    count: int = 0
    names: tuple[str, ...] = ()
    sample: Predictions | None = field(default=None, compare=False)

    @classmethod
    def of(cls, loss: Loss, output_shape: Shape | None = None, meaning: Any = None) -> TargetForm:
        """Return the form of a loss's targets.

        Args:
            loss: the loss.
            output_shape: of the model, for one example; None where only metrics without columns of their own for each
                class or output are fitted.
            meaning: the ColumnMeaning of the targets, with their names; None if that is not known.
        """
        kind = getattr(loss, "targets_are", "")
        if output_shape is None:
            return cls(loss.kind, kind)
        count = output_shape[-1] if output_shape else 1
        lists = [] if meaning is None else [meaning.names, meaning.classes]
        names = next((known for known in lists if known and len(known) == count), ())
        return cls(loss.kind, kind, count, names)

    @property
    def is_binary(self) -> bool:
        """Return True for a single answer yes or no."""
        return self.kind == ANSWERS and self.count == 1

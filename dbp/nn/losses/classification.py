"""Classification losses: outputs are logits, one per class, or one per yes-or-no question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import (
    Value,
    array_of,
    cross_entropy_block,
    log_softmax,
    mean,
    pick,
    relu,
    reshape,
    sigmoid,
    softplus,
    sum_,
)
from dbp.autodiff.primitives.shapes import rows_of
from dbp.checks import check_fraction, check_positive
from dbp.errors import MisfitError, UserError
from dbp.nn.losses.class_weights import ClassWeighted, spread_weights
from dbp.nn.losses.loss import ANSWERS, CLASSES, Shape, as_numbers, check_numbers, check_same_shape
from dbp.text import brief
from dbp.types import Array

NO_CLASS = -1  # of outputs that are not finite
SUM_TOLERANCE = 1e-3  # of probabilities, which may have been stored in half precision


def _first_wrong(wrong: Any) -> int:
    """Return the number of the first example with a True anywhere."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


class Form(Enum):
    """The forms in which targets can name classes; which one it is follows from type and shape alone."""

    # Of classes: integers, whole floats or booleans (examples, *positions), or with a last axis of 1.
    NUMBERS = "numbers"
    COLUMNS = "columns"  # integers or booleans (examples, *positions, classes), one of which is 1
    PROBABILITIES = "probabilities"  # floats (examples, *positions, classes)


def _form(targets: Array, output_shape: Shape) -> Form | None:
    *positions, _ = output_shape
    if targets.dtype.kind not in "buif":
        return None
    if targets.shape[1:] in (tuple(positions), (*positions, 1)):
        return Form.NUMBERS
    if targets.shape[1:] == output_shape:
        return Form.PROBABILITIES if targets.dtype.kind == "f" else Form.COLUMNS
    return None


def _check_classes(kind: str, targets: Array, output_shape: Shape, first: int, probabilities: bool = True) -> None:
    """Raise UserError unless targets name classes; probabilities are accepted if that is True."""
    form = _form(targets, output_shape)
    if form is None or (form is Form.PROBABILITIES and not probabilities):
        raise _form_error(kind, targets, output_shape)
    check = {Form.NUMBERS: _check_numbers, Form.COLUMNS: _check_columns, Form.PROBABILITIES: _check_probabilities}
    check[form](kind, targets, output_shape, first)


def _form_error(kind: str, targets: Array, output_shape: Shape) -> UserError:
    """Return the error for targets whose type or shape is none of the forms."""
    *positions, classes = output_shape
    wanted = f"integers of shape {tuple(positions)} per example, as outputs have {output_shape}"
    remedy = "is a flatten or a pooling layer missing?" if positions else "use mean_squared_error for real numbers"
    if positions and targets.ndim == len(output_shape):
        remedy = "change the lengths of the outputs, such as by padding = 'same' or another stride"
    if targets.ndim == len(output_shape) + 1 and targets.shape[1:-1] == tuple(positions):
        remedy = f"one column per class would be {classes}, so give the model {targets.shape[-1]} outputs"
    return MisfitError(
        f"targets of {kind} must be {wanted if positions else 'one integer per example'}, but are {targets.dtype} "
        f"of shape {targets.shape[1:]} per example; {remedy}"
    )


def _check_numbers(kind: str, targets: Array, output_shape: Shape, first: int) -> None:
    *positions, classes = output_shape
    if targets.dtype.kind == "f" and (wrong := targets != np.floor(targets)).any():
        raise UserError(
            f"targets of {kind} must be classes, whole numbers from 0 to {classes - 1}, but example "
            f"{first + _first_wrong(wrong)} has {targets[wrong][0]}; use mean_squared_error for real numbers"
        )
    wrong = (targets < 0) | (targets >= classes)
    if wrong.any():
        raise UserError(
            f"targets of {kind} must lie from 0 to {classes - 1}, as the model has {classes} outputs"
            f"{' at each position' if positions else ''}, but example {first + _first_wrong(wrong)} has "
            f"{targets[wrong][0]}; number classes from 0, and set the example weight to 0 where none is known"
        )


def _check_columns(kind: str, targets: Array, output_shape: Shape, first: int) -> None:  # noqa: ARG001
    wrong = (targets.astype(bool) != targets).any(axis=-1) | (np.count_nonzero(targets, axis=-1) != 1)
    if wrong.any():
        raise UserError(
            f"targets of {kind} with a column per class must have one 1 and otherwise 0, but example "
            f"{first + _first_wrong(wrong)} has {brief(targets[wrong][0].tolist())}"
        )


def _check_probabilities(kind: str, targets: Array, output_shape: Shape, first: int) -> None:
    check_numbers(targets, output_shape, first)
    wrong = (targets < 0).any(axis=-1) | (np.abs(targets.sum(axis=-1, dtype=np.float64) - 1) > SUM_TOLERANCE)
    if wrong.any():
        raise UserError(
            f"targets of {kind} must be probabilities that add up to 1, but example {first + _first_wrong(wrong)} has "
            f"{brief(targets[wrong][0].tolist())}"
        )


def _drawn_classes(outputs: Array, numbers: np.random.Generator) -> Array:
    """Return classes (examples, *positions) drawn with the probabilities softmax(outputs) (Gumbel 1954)."""
    return np.asarray(np.argmax(outputs + numbers.gumbel(size=outputs.shape), axis=-1))


def _of_target(x: Value, targets: Array) -> Value:
    """Return what x (examples, *positions, classes) holds for the target's class at each position."""
    return reshape(pick(rows_of(x), index=targets.reshape(-1)), shape=targets.shape)


class Classification:
    """Base of losses for one class out of several; outputs are logits (examples, *positions, classes)."""

    kind: ClassVar[str]
    targets_are: ClassVar[str] = CLASSES
    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    applies: ClassVar[str] = "softmax"  # the activation that the loss contains

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError unless targets are numbers of classes, one column per class, or probabilities."""
        _check_output(self.kind, output_shape)
        _check_classes(self.kind, targets, output_shape, first)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return targets as indices of classes, or as probabilities."""
        form = _form(targets, output_shape)
        if form is Form.COLUMNS:
            return np.asarray(np.argmax(targets, axis=-1))
        if form is Form.NUMBERS:
            return targets.astype(np.intp).reshape(len(targets), *output_shape[:-1])
        return targets.astype(dtype)

    def loss_shape(self, output_shape: Shape) -> Shape:
        """Return the outputs' shape without its last axis, the classes."""
        return output_shape[:-1]

    def predict(self, outputs: Array) -> dict[str, Array]:
        """Return the most probable class, -1 where outputs are not finite, and the probabilities of all classes."""
        return {"classes": classes_of(outputs), "probabilities": np.exp(log_softmax(outputs))}


def classes_of(outputs: Array, largest: Array | None = None) -> Array:
    """Return the class of the largest output; -1 where that is infinite or NaN, which argmax takes for the largest.

    Args:
        outputs: (examples, *positions, classes).
        largest: the largest output of each position, if it is known.
    """
    is_finite = np.isfinite(np.max(outputs, axis=-1) if largest is None else largest)
    return np.where(is_finite, np.argmax(outputs, axis=-1), NO_CLASS)


def _check_output(kind: str, output_shape: Shape) -> None:
    if not output_shape:
        raise MisfitError(f"{kind} takes one output per class, but the model returns one number per example")
    if output_shape[-1] == 1:
        raise MisfitError(
            f"{kind} takes one output per class, but the model has 1, for which the cost is always 0; take "
            "binary_cross_entropy for two classes with one output, or give the model an output per class"
        )


@dataclass(frozen=True)
class CrossEntropy(Classification, ClassWeighted):
    """Cross-entropy of the softmax of the outputs: the negative log probability of the target's class.

    Targets are integers (examples, *positions), or probabilities (examples, *positions, classes), which weight the
    logarithms. With label_smoothing s, targets have weight 1 - s and a uniform distribution weight s (Szegedy et al.
    2016). With class_weights c the loss of a target has the factor c[target], or sum(c t) for probabilities t.
    """

    kind: ClassVar[str] = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: str | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_fraction(label_smoothing=self.label_smoothing)
        self.check_class_weights()

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return -log softmax(outputs)[target] per position, times the factor of the class."""
        loss = self._unweighted(outputs, targets)
        if self.class_weights is None:
            return loss
        factors = self.factors_for(np.shape(outputs)[-1], array_of(outputs).dtype)
        return loss * (factors[targets] if targets.ndim < outputs.ndim else targets @ factors)

    def draw(self, outputs: Array, numbers: np.random.Generator) -> Array:
        """Return targets from the distribution whose negative log probability the loss is."""
        return _drawn_classes(outputs, numbers)

    def class_totals(self, targets: Array, weights: Array | None, output_shape: Shape) -> Array:
        """Return the sum of example weights of each class, shape (classes,), for prepared targets."""
        classes = output_shape[-1]
        if targets.ndim < 1 + len(output_shape):
            each = spread_weights(weights, targets.shape)
            return np.bincount(targets.ravel(), each.ravel(), minlength=classes)
        each = spread_weights(weights, targets.shape)
        return np.asarray(np.sum((targets * each).reshape(-1, classes), axis=0, dtype=np.float64))

    def factors_of_table(self, output_shape: Shape, classes: Sequence[str]) -> Array:
        """Return the factors of the table of class weights; see factors_in_table()."""
        return self.factors_in_table(output_shape[-1], classes)

    def _unweighted(self, outputs: Value, targets: Array) -> Value:
        certain, s = targets.ndim < outputs.ndim, self.label_smoothing
        if certain and not s:
            return cross_entropy_block(outputs, targets=targets)
        logarithms = log_softmax(outputs)
        loss = -_of_target(logarithms, targets) if certain else -sum_(logarithms * targets, axis=-1)
        return (1 - s) * loss - s * mean(logarithms, axis=-1) if s else loss


@dataclass(frozen=True)
class KullbackLeibler(Classification):
    """Kullback-Leibler divergence sum(t log(t / p)) of the target t from p, the softmax of the outputs.

    Targets are probabilities (examples, *positions, classes), or integers (examples, *positions) for certainty.
    """

    kind: ClassVar[str] = "kullback_leibler"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return the cross-entropy minus the entropy of the target, per position."""
        loss = CrossEntropy()(outputs, targets)
        if targets.ndim < outputs.ndim:
            return loss
        logarithms = np.log(np.where(targets > 0, targets, 1))
        return loss + np.sum(targets * logarithms, axis=-1)

    def draw(self, outputs: Array, numbers: np.random.Generator) -> Array:
        """Return targets from the distribution whose negative log probability the loss is."""
        return _drawn_classes(outputs, numbers)


@dataclass(frozen=True)
class Hinge(Classification):
    """Multi-class hinge loss, averaged over the classes (Weston and Watkins 1999).

    Targets are integers (examples, *positions). `margin` is by how much the target's output must exceed the others.
    """

    kind: ClassVar[str] = "hinge"
    applies: ClassVar[str] = ""
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(margin=self.margin)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError unless targets are numbers of classes, or one column per class."""
        _check_output(self.kind, output_shape)
        _check_classes(self.kind, targets, output_shape, first, probabilities=False)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return sum(max(0, margin - z[target] + z[k])) over the other classes k, divided by the number of classes."""
        own = reshape(_of_target(outputs, targets), shape=(*targets.shape, 1))
        others = np.arange(np.shape(outputs)[-1]) != targets[..., None]
        return mean(relu(outputs - own + (self.margin * others).astype(array_of(outputs).dtype)), axis=-1)


@dataclass(frozen=True)
class BinaryCrossEntropy(ClassWeighted):
    """Cross-entropy of independent yes-or-no targets; an output is the logit of the probability of yes.

    Outputs and targets (examples, ...), or targets (examples,) for one output; one loss per output. With class_weights
    (no, yes) the loss has the factor no + (yes - no) target; "balanced" ones are those of each output.
    """

    kind: ClassVar[str] = "binary_cross_entropy"
    targets_are: ClassVar[str] = ANSWERS
    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    applies: ClassVar[str] = "sigmoid"
    class_weights: str | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        self.check_class_weights()

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError unless targets lie from 0 to 1 and have the outputs' shape."""
        check_numbers(targets, output_shape, first)
        wrong = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"targets of binary_cross_entropy must lie from 0 to 1, but example {first + row} has {targets[row]}"
            )

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return targets in this dtype, of the outputs' shape."""
        return as_numbers(targets, output_shape, dtype)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return log(1 + exp(z)) - y z = -y log p - (1 - y) log(1 - p) for p = sigmoid(z), per output."""
        check_same_shape(outputs, targets)
        loss = softplus(outputs) - outputs * targets
        if self.class_weights is None:
            return loss
        factors = self.factors_for(2, array_of(outputs).dtype)
        no, yes = factors[..., 0], factors[..., 1]
        return loss * (no + (yes - no) * targets)

    def draw(self, outputs: Array, numbers: np.random.Generator) -> Array:
        """Return targets from the distribution whose negative log probability the loss is."""
        return np.asarray(numbers.random(outputs.shape) < sigmoid(outputs), outputs.dtype)

    def class_totals(self, targets: Array, weights: Array | None, output_shape: Shape) -> Array:
        """Return the sum of example weights of no and of yes, shape (outputs, 2), for prepared targets."""
        each, outputs = spread_weights(weights, targets.shape), output_shape[-1] if output_shape else 1
        yes = np.sum((each * targets).reshape(-1, outputs), axis=0, dtype=np.float64)
        both = np.sum(each.reshape(-1, outputs), axis=0, dtype=np.float64)
        return np.stack([both - yes, yes], axis=-1)

    def factors_of_table(self, output_shape: Shape, classes: Sequence[str]) -> Array:  # noqa: ARG002
        """Return the factors of no and yes in the table of class weights; see factors_in_table()."""
        return self.factors_in_table(2, classes if len(classes) == 2 else ())

    def loss_shape(self, output_shape: Shape) -> Shape:
        """Return the outputs' shape: one loss per output."""
        return output_shape

    def predict(self, outputs: Array) -> dict[str, Array]:
        """Return the class 0 or 1 of each output, -1 where it is not finite, and the probability of class 1."""
        classes = np.where(np.isfinite(outputs), outputs > 0, NO_CLASS)
        return {"classes": classes.astype(np.int64), "probabilities": sigmoid(outputs)}

"""A loss of one's own: a function of outputs and targets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, pullback
from dbp.errors import MisfitError, UserError, unknown
from dbp.nn.losses.loss import ANSWERS, CLASSES, NUMBERS, Shape, as_numbers, check_finite
from dbp.nn.source_text import name_of
from dbp.nn.user_line import SHAPE_MESSAGES, user_line
from dbp.types import Array

EXAMPLES = 3  # of the call that shows which shape the losses have
STEPS = (1e-4, 1e-5)  # of the differences that derivatives are compared with, relative to the outputs
SMOOTH, WRONG = 1e-3, 1e-2  # relative differences: of two steps where there is no kink, of a wrong derivative


def _signature_without_two(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the arguments of a function that cannot be called with two; None if it can, or if Python cannot say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some functions in C
        return None
    try:
        signature.bind(None, None)
    except TypeError:
        return signature
    return None


@dataclass(frozen=True)
class FunctionLoss:
    """A loss that is a function of outputs and targets, of one value for each example or each of its positions.

    Targets have the outputs' shape and type if they are as many numbers; else they stay as they are stored, numbers of
    classes as integers.

    Args:
        function: takes outputs (examples, ...) and targets; returns losses (examples,), or (examples, *positions) with
            the leading axes of the outputs. It is written with operators and the functions of dbp.autodiff.
        targets_are: "classes", "answers" or "numbers", by which metrics know what outputs and targets mean; "" if that
            is not known.
    """

    default_metrics: ClassVar[tuple[str, ...]] = ()
    function: Callable[[Value, Array], Value]
    targets_are: str = ""
    _loss_shapes: dict[Shape, Shape] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.targets_are not in ("", CLASSES, ANSWERS, NUMBERS):
            raise unknown("targets_are", self.targets_are, (CLASSES, ANSWERS, NUMBERS))
        if (signature := _signature_without_two(self.function)) is not None:
            raise UserError(
                f"loss {self.kind} must take two arguments, outputs and targets, but is {self.kind}{signature}; "
                f"begin it with def {self.kind if self.kind.isidentifier() else 'loss'}(outputs, targets):"
            )

    @property
    def kind(self) -> str:
        """Return the function's name."""
        return name_of(self.function)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError unless targets are finite numbers with which the function returns one loss per example."""
        if targets.dtype.kind not in "buif":
            raise MisfitError(f"targets must be numbers, but are {targets.dtype}")
        check_finite(targets, first)
        if output_shape not in self._loss_shapes and len(targets):
            self._loss_shapes[output_shape] = self._try(targets, output_shape)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return targets in the outputs' shape and type if they are as many numbers, else integers or floats."""
        if targets[:1].size == np.zeros(output_shape, np.bool_).size:
            return as_numbers(targets, output_shape, dtype)
        return targets.astype(dtype if targets.dtype.kind == "f" else np.intp)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return what the function returns."""
        return self.function(outputs, targets)

    def loss_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of an example's losses, known once targets for outputs of this shape were checked."""
        return self._loss_shapes.get(output_shape, ())

    def predict(self, outputs: Array) -> dict[str, Array]:  # noqa: ARG002
        """Return nothing: the outputs are the prediction."""
        return {}

    def _try(self, targets: Array, output_shape: Shape) -> Shape:
        """Call the function on a few examples; return the shape of an example's losses, or raise what is wrong."""
        outputs = Tensor(np.full((EXAMPLES, *output_shape), 0.5))
        prepared = self.prepare(np.repeat(targets[:1], EXAMPLES, axis=0), output_shape, np.dtype(np.float64))
        losses = self._called(outputs, prepared)
        shape = np.shape(losses)
        if shape[:1] != (EXAMPLES,) or shape[1:] != output_shape[: len(shape) - 1]:
            what = "None" if losses is None else "one number for all" if shape == () else f"shape {shape}"
            remedy = "; leave out the mean or sum over examples" if shape == () and losses is not None else ""
            positions = f", or (examples, *positions) for outputs of shape {output_shape} each" * bool(output_shape)
            raise MisfitError(
                f"loss {self.kind} must return one number per example, of shape (examples,){positions}, but for "
                f"{EXAMPLES} examples with targets of shape {prepared.shape[1:]} it returned {what}{remedy}"
            )
        if type(losses) is not Tensor:
            raise MisfitError(
                f"loss {self.kind} returned plain numbers, whose derivative by the outputs is lost; compute them from "
                "the outputs with operators and the functions of dbp.autodiff, without array_of()"
            )
        return shape[1:]

    def _called(self, outputs: Value, targets: Array) -> Value:
        """Return the losses; name the line of the user where shapes do not fit or a derivative would be lost."""
        try:
            with np.errstate(all="ignore"):  # only shapes matter
                return self.function(outputs, targets)
        except (TypeError, ValueError) as error:
            line, raised_by_numpy = user_line(error)
            if not line or (raised_by_numpy and not str(error).startswith(SHAPE_MESSAGES)):
                raise  # a mistake of the function itself, whose traceback says more
            raise MisfitError(f"loss {self.kind}: {line}: {error}") from None

    def check_derivative(self, outputs: Array, targets: Array) -> None:
        """Raise UserError unless the derivative by the outputs agrees with differences along a random direction.

        Nothing is said where the function has a kink, or is not finite.

        Args:
            outputs: of a few examples.
            targets: of the examples, prepared.
        """
        rng = np.random.default_rng(0)
        outputs = outputs.astype(np.float64)
        targets = targets.astype(np.float64) if targets.dtype.kind == "f" else targets
        leaf, direction = Tensor(outputs), rng.standard_normal(outputs.shape)
        losses = self._called(leaf, targets)
        cotangent = rng.standard_normal(np.shape(losses))
        (gradient,) = pullback(losses, cotangent, [leaf])
        reverse = 0.0 if gradient is None else float(np.sum(array_of(gradient) * direction))

        def difference(step: float) -> float:
            h = step * max(1.0, float(np.sqrt(np.mean(np.square(outputs)))))
            ends = (array_of(self.function(outputs + sign * h * direction, targets)) for sign in (1, -1))
            after, before = (float(np.sum(cotangent * end)) for end in ends)
            return (after - before) / (2 * h)

        with np.errstate(all="ignore"):
            coarse, fine = map(difference, STEPS)
        scale = max(abs(reverse), abs(coarse), abs(fine))
        if np.isfinite(scale) and abs(coarse - fine) <= SMOOTH * scale and abs(reverse - fine) > WRONG * scale:
            raise UserError(
                f"the derivative of loss {self.kind} by the outputs is wrong: {reverse:.6g} along a random direction, "
                f"where differences of its values give {fine:.6g}; use the outputs themselves in all of it, not "
                "array_of(outputs), and check derivatives of your own with dbp.autodiff.check_derivatives"
            )

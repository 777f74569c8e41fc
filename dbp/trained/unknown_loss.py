"""The stand-in for a loss that is Python code which is not given: its model predicts, but cannot be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dbp.autodiff import Value
from dbp.errors import UserError
from dbp.nn import JointLoss, Loss, losses_by_target
from dbp.types import Array


@dataclass(frozen=True)
class UnknownLoss:
    """A loss of which a checkpoint keeps the name alone.

    Args:
        kind: its name.
    """

    default_metrics: ClassVar[tuple[str, ...]] = ()
    kind: str

    @property
    def refusal(self) -> UserError:
        """Return the error of an evaluation."""
        return UserError(
            f"the checkpoint's loss is the Python code {self.kind!r}, without which its model predicts, but cannot be "
            "evaluated; give it in Python, dbp.load(path, loss=...), or train with code that the script imports from "
            "a file"
        )

    def check(self, targets: Array, output_shape: tuple[int, ...], first: int = 0) -> None:  # noqa: ARG002
        """Raise UserError."""
        raise self.refusal

    def prepare(self, targets: Array, output_shape: tuple[int, ...], dtype: Any) -> Array:  # noqa: ARG002
        """Raise UserError."""
        raise self.refusal

    def __call__(self, outputs: Value, targets: Array) -> Value:  # noqa: ARG002
        """Raise UserError."""
        raise self.refusal

    def loss_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002
        """Return the shape of one loss for each example."""
        return ()

    def predict(self, outputs: Array) -> Mapping[str, Array]:  # noqa: ARG002
        """Return nothing: what else follows from outputs is not known."""
        return {}


def check_is_known(loss: Loss | JointLoss) -> None:
    """Raise UserError if a loss, or that of a target, is the stand-in for one that is not given."""
    for one in losses_by_target(loss).values():
        if isinstance(one, UnknownLoss):
            raise one.refusal

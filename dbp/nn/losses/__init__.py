"""Losses, by name.

To add a loss:

1. Write a frozen dataclass with a `kind` and the methods of `Loss` in classification.py or regression.py, whose base
   classes have most of them.
2. List the class in LOSSES, so that a config can name it, export it from dbp/nn/__init__.py, and describe it in
   docs/config.md.
3. Test its closed form, its derivatives and the targets that it refuses in tests/nn/test_losses.py.
4. Compare it with PyTorch's in tests/nn/test_losses_as_pytorch.py.

A function of the user's becomes a FunctionLoss (function.py). Class weights are in class_weights.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dbp.errors import UserError, unknown
from dbp.nn.losses.classification import BinaryCrossEntropy, CrossEntropy, Hinge, KullbackLeibler, classes_of
from dbp.nn.losses.function import FunctionLoss
from dbp.nn.losses.joint import JointLoss, TargetLoss
from dbp.nn.losses.loss import ANSWERS, CLASSES, NUMBERS, Loss, as_weighted, check_targets, weighted_losses
from dbp.nn.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError

LOSSES: dict[str, type[Loss]] = {
    loss.kind: loss
    for loss in (
        CrossEntropy,
        BinaryCrossEntropy,
        KullbackLeibler,
        Hinge,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
    )
}


def loss_named(name: str) -> Loss:
    """Return the loss of this name with its default settings; UserError for an unknown one."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]()


MEMBERS = ("kind", "default_metrics", "check", "prepare", "loss_shape", "predict")


def as_loss(given: Any) -> Any:
    """Return a loss, given itself, its name or a function; or a JointLoss, given one for each target by its name.

    Raises:
        UserError: it is none of these; the message says what is missing.
    """
    if isinstance(given, str):
        return loss_named(given)
    if isinstance(given, JointLoss):
        return given
    if isinstance(given, Mapping):
        return JointLoss({name: _as_target_loss(str(name), loss) for name, loss in given.items()})
    if isinstance(given, type):
        raise UserError(f"loss {given.__name__} is a class; make an object of it: {given.__name__}()")
    missing = [part for part in MEMBERS if not hasattr(given, part)] + ["__call__"] * (not callable(given))
    if missing == list(MEMBERS):
        return cast(Loss, FunctionLoss(given))
    if missing:
        raise UserError(
            f"loss {getattr(given, '__name__', repr(given))} lacks {', '.join(missing)}; give a name (valid: "
            f"{', '.join(sorted(LOSSES))}) or an object with all that dbp.nn.Loss lists"
        )
    return cast(Loss, given)


def losses_by_target(loss: Any) -> dict[str, Loss]:
    """Return the loss of each target by its name; "" is the name of the only target without one."""
    return {name: part.loss for name, part in loss.parts.items()} if isinstance(loss, JointLoss) else {"": loss}


def _as_target_loss(name: str, given: Any) -> TargetLoss:
    """Return the loss of a target, given itself, a loss, or a table with its kind, settings and weight."""
    if isinstance(given, TargetLoss):
        return TargetLoss(as_loss(given.loss), given.weight)
    if not isinstance(given, Mapping):
        return TargetLoss(as_loss(given))
    settings = dict(given)
    weight, kind = settings.pop("weight", 1.0), settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in LOSSES:
        raise unknown(f"loss of {name}:", kind, LOSSES)
    try:
        return TargetLoss(LOSSES[kind](**settings), weight)
    except TypeError as error:
        raise UserError(f"loss of {name}: {error}") from None


__all__ = [
    "ANSWERS",
    "CLASSES",
    "LOSSES",
    "NUMBERS",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "FunctionLoss",
    "Hinge",
    "Huber",
    "JointLoss",
    "KullbackLeibler",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "TargetLoss",
    "as_loss",
    "as_weighted",
    "check_targets",
    "classes_of",
    "loss_named",
    "losses_by_target",
    "weighted_losses",
]

"""Losses, by name."""

from __future__ import annotations

from typing import Any, cast

from dbp.errors import UserError, unknown
from dbp.nn.losses.classification import BinaryCrossEntropy, CrossEntropy, Hinge, KullbackLeibler
from dbp.nn.losses.loss import Loss, check_weights
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
    """The loss of that name, with its usual settings; UserError for an unknown one."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]()


PARTS = ("kind", "metrics", "check", "prepare", "places", "measure", "predict")


def as_loss(given: Any) -> Loss:
    """A loss, or the one of a name; UserError, saying what is missing, for anything else."""
    if isinstance(given, str):
        return loss_named(given)
    if isinstance(given, type):
        raise UserError(f"loss {given.__name__} is a class; make an object of it: {given.__name__}()")
    missing = [part for part in PARTS if not hasattr(given, part)] + ["__call__"] * (not callable(given))
    if missing:
        raise UserError(
            f"loss {getattr(given, '__name__', repr(given))} lacks {', '.join(missing)}; give a name (valid: "
            f"{', '.join(sorted(LOSSES))}) or an object with all that dbp.nn.Loss lists"
        )
    return cast(Loss, given)


__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Hinge",
    "Huber",
    "KullbackLeibler",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "as_loss",
    "check_weights",
    "loss_named",
]

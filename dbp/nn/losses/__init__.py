"""Losses, by name."""

from __future__ import annotations

from dbp.errors import unknown
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
    "check_weights",
    "loss_named",
]

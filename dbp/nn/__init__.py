"""Networks: layers, activations, initialisers, losses."""

from dbp.nn.activations import ACTIVATIONS
from dbp.nn.initialisers import INITIALISERS
from dbp.nn.layers import LAYERS, Activation, Dense, Flatten, Layer, Sequential
from dbp.nn.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    Hinge,
    Huber,
    KullbackLeibler,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    loss_named,
)
from dbp.nn.scope import Model, Scope, initial_parameters, use

__all__ = [
    "ACTIVATIONS",
    "INITIALISERS",
    "LAYERS",
    "LOSSES",
    "Activation",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Dense",
    "Flatten",
    "Hinge",
    "Huber",
    "KullbackLeibler",
    "Layer",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "Scope",
    "Sequential",
    "initial_parameters",
    "loss_named",
    "use",
]

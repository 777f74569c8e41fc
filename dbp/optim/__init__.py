"""Optimizers and learning-rate schedules."""

from dbp.optim.adagrad import Adagrad
from dbp.optim.adam import Adam, AdamW
from dbp.optim.first_order import FirstOrder
from dbp.optim.layerwise import LAMB, LARS
from dbp.optim.lbfgs import LBFGS
from dbp.optim.levenberg_marquardt import LevenbergMarquardt
from dbp.optim.lion import Lion
from dbp.optim.method import Method, Outcome, State, Step
from dbp.optim.muon import Muon
from dbp.optim.nadam import NAdam
from dbp.optim.newton import TruncatedNewton
from dbp.optim.rmsprop import RMSprop
from dbp.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Plateau,
    Polynomial,
    Schedule,
    StepDecay,
)
from dbp.optim.scipy_methods import Scipy
from dbp.optim.sgd import SGD

_METHODS: tuple[type[Method], ...] = (SGD, Adagrad, RMSprop, Adam, AdamW, NAdam, LARS, LAMB, Lion, Muon)
_METHODS += (LBFGS, TruncatedNewton, LevenbergMarquardt, Scipy)
OPTIMIZERS: dict[str, type[Method]] = {method.kind: method for method in _METHODS}

__all__ = [
    "LAMB",
    "LARS",
    "LBFGS",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Exponential",
    "FirstOrder",
    "LevenbergMarquardt",
    "Lion",
    "Method",
    "Muon",
    "NAdam",
    "OneCycle",
    "Outcome",
    "Plateau",
    "Polynomial",
    "RMSprop",
    "Schedule",
    "Scipy",
    "State",
    "Step",
    "StepDecay",
    "TruncatedNewton",
]

"""Optimizers and learning-rate schedules."""

from dbp.optim.adam import Adam
from dbp.optim.first_order import FirstOrder
from dbp.optim.method import Method, Outcome, State, Step
from dbp.optim.newton import TruncatedNewton
from dbp.optim.schedules import SCHEDULES, Constant, Cosine, Schedule
from dbp.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Method]] = {method.kind: method for method in (SGD, Adam, TruncatedNewton)}

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adam",
    "Constant",
    "Cosine",
    "FirstOrder",
    "Method",
    "Outcome",
    "Schedule",
    "State",
    "Step",
    "TruncatedNewton",
]

"""Optimizers and learning-rate schedules."""

from dbp.optim.adam import Adam
from dbp.optim.optimizer import FirstOrder
from dbp.optim.schedules import SCHEDULES, Constant, Cosine, Schedule
from dbp.optim.sgd import SGD

OPTIMIZERS: dict[str, type[FirstOrder]] = {method.kind: method for method in (SGD, Adam)}

__all__ = ["OPTIMIZERS", "SCHEDULES", "SGD", "Adam", "Constant", "Cosine", "FirstOrder", "Schedule"]

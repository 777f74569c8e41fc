"""Optimizers and learning-rate schedules.

A new optimizer is a frozen dataclass in a file of its own. A first-order one derives from `FirstOrder` (see sgd.py):
give it a `kind`, its settings, the names of its `vectors` and an `update` of one block. Any other one derives from
`Optimizer` and implements `step` (see lbfgs.py). Then add the class to `OPTIMIZERS` below: its `kind` is the config's
`optimizer.kind`, and its fields are the other keys of that section.

A new schedule derives from `Schedule` and implements `after_warmup`; add it to `SCHEDULES`, at the end of
learning_rate_schedules.py. tests/optim tests both, and docs/config.md lists their settings.
"""

from dbp.optim.adagrad import Adagrad
from dbp.optim.adam import Adam, AdamW
from dbp.optim.first_order import FirstOrder
from dbp.optim.lamb import LAMB
from dbp.optim.lars import LARS
from dbp.optim.lbfgs import LBFGS
from dbp.optim.learning_rate_schedules import (
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
from dbp.optim.levenberg_marquardt import LevenbergMarquardt
from dbp.optim.lion import Lion
from dbp.optim.muon import Muon
from dbp.optim.nadam import NAdam
from dbp.optim.newton import Newton
from dbp.optim.optimizer import Optimizer, Outcome, State, Step
from dbp.optim.rmsprop import RMSprop
from dbp.optim.scipy_methods import Scipy
from dbp.optim.sgd import SGD

_FIRST_ORDER: tuple[type[Optimizer], ...] = (SGD, Adagrad, RMSprop, Adam, AdamW, NAdam, LARS, LAMB, Lion, Muon)
_SECOND_ORDER: tuple[type[Optimizer], ...] = (LBFGS, Newton, LevenbergMarquardt, Scipy)
OPTIMIZERS = {optimizer.kind: optimizer for optimizer in (*_FIRST_ORDER, *_SECOND_ORDER)}

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
    "Muon",
    "NAdam",
    "Newton",
    "OneCycle",
    "Optimizer",
    "Outcome",
    "Plateau",
    "Polynomial",
    "RMSprop",
    "Schedule",
    "Scipy",
    "State",
    "Step",
    "StepDecay",
]

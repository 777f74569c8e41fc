"""Optimizers and learning-rate schedules.

To add an optimizer:

1. Write a frozen dataclass in a file of its own; cite the paper, and keep the order of its equations. One of first
   order derives from `FirstOrder` (see sgd.py) and has a `kind`, its settings, the names of its `vectors` and an
   `update` of one block. Any other one derives from `Optimizer` and implements `step` (see lbfgs.py).
2. It sees flat vectors, asks the `space` of the cost for dot products (see protocols.py), and never communicates.
3. Add its module and class to OPTIMIZERS below, which imports it when it is used: its `kind` is the config's
   `optimizer.kind`, and its fields are the other keys of that section. Add its row to docs/config.md.
4. Test it by closed forms in tests/optim, and its digest on 1, 2, 3 and 5 ranks in tests/optim/test_first_order_runs.py
   or tests/optim/test_optimizer_on_ranks.py.

To add a schedule:

1. Write a subclass of `Schedule` with a `kind` and `after_warmup` in learning_rate_schedules.py.
2. Add it to SCHEDULES at the end of that file, and its row to docs/config.md.
3. Test its factors in tests/optim/test_learning_rate_schedules.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from dbp import lazy
from dbp.checks import check_takes
from dbp.errors import UserError, unknown
from dbp.optim.first_order import FirstOrder
from dbp.optim.learning_rate_schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Plateau,
    Polynomial,
    Schedule,
    ScheduleFunction,
    StepDecay,
)
from dbp.optim.optimizer import AVERAGE, Optimizer, Outcome, State, Step

if TYPE_CHECKING:
    from dbp.optim.adagrad import Adagrad
    from dbp.optim.adam import Adam, AdamW
    from dbp.optim.kfac import KFAC
    from dbp.optim.lamb import LAMB
    from dbp.optim.lars import LARS
    from dbp.optim.lbfgs import LBFGS
    from dbp.optim.levenberg_marquardt import LevenbergMarquardt
    from dbp.optim.lion import Lion
    from dbp.optim.muon import Muon
    from dbp.optim.nadam import NAdam
    from dbp.optim.newton import Newton
    from dbp.optim.rmsprop import RMSprop
    from dbp.optim.scipy_methods import Scipy
    from dbp.optim.sgd import SGD

OPTIMIZERS = lazy.Kinds(
    __name__,
    {
        "sgd": "sgd.SGD",
        "adagrad": "adagrad.Adagrad",
        "rmsprop": "rmsprop.RMSprop",
        "adam": "adam.Adam",
        "adamw": "adam.AdamW",
        "nadam": "nadam.NAdam",
        "lars": "lars.LARS",
        "lamb": "lamb.LAMB",
        "lion": "lion.Lion",
        "muon": "muon.Muon",
        "lbfgs": "lbfgs.LBFGS",
        "newton": "newton.Newton",
        "kfac": "kfac.KFAC",
        "levenberg_marquardt": "levenberg_marquardt.LevenbergMarquardt",
        "scipy": "scipy_methods.Scipy",
    },
)


def as_optimizer(given: Any) -> Optimizer:
    """Return an optimizer, given itself or its name; UserError for anything else."""
    return cast(Optimizer, _as("optimizer", given, OPTIMIZERS, Optimizer))


def as_schedule(given: Any) -> Schedule:
    """Return a schedule of the learning rate, given itself, its name, or a function of the step and of all steps.

    Raises:
        UserError: it is none of these.
    """
    if callable(given) and not isinstance(given, type):
        check_takes("schedule", given, "the step", "the number of steps")
        return ScheduleFunction(function=given)
    return cast(Schedule, _as("schedule", given, SCHEDULES, Schedule))


def _as(what: str, given: Any, kinds: Mapping[str, type[Any]], base: type[Any]) -> Any:
    if isinstance(given, base):
        return given
    if isinstance(given, type):
        raise UserError(f"{what} {given.__name__} is a class; make an object of it: {given.__name__}(...)")
    if not isinstance(given, str):
        raise UserError(
            f"{what} must be a name (valid: {', '.join(sorted(kinds))}) or an object of dbp.optim, but is {given!r}"
        )
    if given not in kinds:
        raise unknown(what, given, kinds)
    for field in dataclasses.fields(kinds[given]):
        if field.default is field.default_factory is dataclasses.MISSING:
            example = f"dbp.optim.{kinds[given].__name__}({field.name}=...)"
            raise UserError(f"{what} {given!r} needs {field.name}; from Python give {example}")
    return kinds[given]()


__all__ = [
    "AVERAGE",
    "KFAC",
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
    "ScheduleFunction",
    "Scipy",
    "State",
    "Step",
    "StepDecay",
    "as_optimizer",
    "as_schedule",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, OPTIMIZERS.homes, name)

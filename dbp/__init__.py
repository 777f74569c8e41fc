"""dbp trains neural networks by data parallelism over MPI, to the same bits on any number of ranks.

    dbp.fit(...)          train on all ranks that mpirun started, or resume a run; returns the trained model
    dbp.load(...)         the trained model in a checkpoint or a run's folder
    dbp.launch(...)       a function of a notebook on several ranks
    dbp.sklearn           estimators of scikit-learn that dbp trains
    dbp.rank()            the number of this rank, and dbp.ranks() that of all
    dbp.nn, dbp.optim     what to train, and how
    dbp.metrics           what is reported beside the cost
    dbp.data              data sets; dbp.Data names those of a run
    dbp.convert           data files from blocks of rows
    dbp.autodiff          derivatives of your own functions
    dbp.listeners         the events of a run, for functions of yours that follow it
    dbp.insight           summaries of models, each neuron's contribution to the error, effects of changes

Modules are loaded when they are first used, as thousands of ranks may import dbp at once. One thing happens at import:
sys.excepthook is set, so that a mistake in a script takes one line and, where a launcher has started several ranks, an
exception on one of them ends all. Such a rank also gets an exit hook, so that the others can say that it has left.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.script.hooks import set_hooks
from dbp.version import VERSION

set_hooks()
__version__ = VERSION
__all__ = [
    "STOP",
    "Checkpoint",
    "Data",
    "EarlyStopping",
    "Interrupted",
    "Log",
    "NotFinite",
    "Settings",
    "TrainedModel",
    "UserError",
    "Watch",
    "__version__",
    "autodiff",
    "checkpoint",
    "convert",
    "data",
    "fit",
    "insight",
    "launch",
    "listener",
    "listeners",
    "load",
    "metrics",
    "nn",
    "optim",
    "rank",
    "ranks",
    "sklearn",
]

_HOMES = {
    "fit": "training.fit",
    "launch": "notebook.launch",
    "load": "trained.loading",
    "TrainedModel": "trained.trained_model",
    **dict.fromkeys(
        ("Data", "EarlyStopping", "Log", "NotFinite", "Checkpoint", "Settings", "Watch"), "config.settings"
    ),
    **dict.fromkeys(("STOP", "listener"), "listeners"),
    **dict.fromkeys(("rank", "ranks"), "parallel.ranks.world"),
    **dict.fromkeys(("Interrupted", "UserError"), "errors"),
}
_MODULES = ("autodiff", "checkpoint", "convert", "data", "insight", "listeners", "metrics", "nn", "optim", "sklearn")

if TYPE_CHECKING:
    from dbp import autodiff, checkpoint, convert, data, insight, listeners, metrics, nn, optim, sklearn
    from dbp.config.data import Data
    from dbp.config.settings import Checkpoint, EarlyStopping, Log, NotFinite, Settings, Watch
    from dbp.errors import Interrupted, UserError
    from dbp.listeners import STOP, listener
    from dbp.notebook.launch import launch
    from dbp.parallel.ranks.world import rank, ranks
    from dbp.trained.loading import load
    from dbp.trained.trained_model import TrainedModel
    from dbp.training.fit import fit


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"dbp.{name}")
        return lazy.attribute(__name__, _HOMES, name)

"""Training that continues in memory, epoch after epoch, on the same or on other data of the same kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dbp.config.settings import Settings
from dbp.parallel import Communicator
from dbp.run.snapshot import Snapshot
from dbp.run.standardization import Standardization
from dbp.saving.start import Start
from dbp.training.fit import result_of, start_run
from dbp.training.loop import train_epochs

if TYPE_CHECKING:
    from dbp.trained.trained_model import TrainedModel


@dataclass(frozen=True)
class Trained:
    """What a training in memory has come to, and what the next one continues from.

    Args:
        model: the trained model.
        snapshot: the state of the run, on rank 0.
        standardization: how its data is standardized.
    """

    model: TrainedModel
    snapshot: Snapshot
    standardization: Standardization


def train_more(settings: Settings, comm: Communicator, epochs: int, before: Trained | None = None) -> Trained:
    """Train some epochs more, from new weights or from an earlier state, and write no files; collective.

    Mean and deviation of the data, the optimizer's vectors and the history go on from the earlier state.

    Args:
        settings: what to train, and how; `out` must be None, and `epochs` is not looked at.
        comm: the ranks.
        epochs: how many.
        before: the state to continue from, by the same model and optimizer.

    Raises:
        UserError: settings and data do not fit together.
    """
    done = 0 if before is None else len(before.model.history.get("cost", ()))  # the model may be an earlier epoch's
    settings, start = replace(settings, epochs=done + epochs), Start(quiet=True)
    snapshot, known = (None, None) if before is None else (before.snapshot, before.standardization)
    with start_run(settings, comm, start, snapshot, known) as (run, saver, display):
        train_epochs(run, saver, display)
        for vector in run.vectors.values():
            run.arena.fence(vector)
        return Trained(result_of(run), Snapshot.of(run) if comm.rank == 0 else Snapshot(), run.standardization)

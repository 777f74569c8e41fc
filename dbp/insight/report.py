"""Insight into a checkpoint on a data set, as text for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dbp.checkpoint import StoredCheckpoint, epoch_words
from dbp.config.settings import Settings
from dbp.data import OutputFile
from dbp.insight.neurons import Neurons, neurons_of
from dbp.insight.what_if import EXACT, what_if_from_words
from dbp.parallel import Communicator, from_rank_0
from dbp.trained.evaluator import DataFile, evaluator_of_checkpoint


def what_if_text(
    settings: Settings, checkpoint: StoredCheckpoint, data: DataFile, changes: Sequence[str], comm: Communicator
) -> str:
    """Return how the cost over the data in a file changes with some weights; collective."""
    return str(what_if_from_words(evaluator_of_checkpoint(settings, checkpoint, data, comm, EXACT), changes))


def neurons_text(
    settings: Settings,
    checkpoint: StoredCheckpoint,
    data: DataFile,
    comm: Communicator,
    top: int,
    out: OutputFile | None = None,
) -> str:
    """Return the largest deltas and the dead units of each layer, and write the figures of all units; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint.
        data: inputs and targets.
        comm: the ranks.
        top: number of units that are shown of each layer.
        out: the HDF5 file to write, with a group for each layer; None for none.
    """
    evaluated = partial(evaluator_of_checkpoint, settings, checkpoint, data, comm)
    which = f"\n\nweights: {words}" if (words := epoch_words(checkpoint.progress)) else ""
    if out is None:
        return f"{neurons_of(evaluated()).text(top)}{which}"
    with out:
        from_rank_0(comm, out.create)  # before anything that takes long
        found = neurons_of(evaluated())
        from_rank_0(comm, _write, out, found)
    return f"{found.text(top)}{which}\n\nall figures written to {out.path}"


def _write(file: OutputFile, found: Neurons) -> None:
    arrays = {f"{path}/{name}": array for path, layer in found.layers.items() for name, array in layer.arrays().items()}
    file.write_all(arrays, {"/": {"cost": found.cost, "examples": found.examples}})
    file.commit()

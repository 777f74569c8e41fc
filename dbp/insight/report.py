"""What the command line shows of a checkpoint on data: its neurons, or what a change of its weights would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dbp.checkpoint import Checkpoint
from dbp.config.settings import Settings
from dbp.data import OutputFile
from dbp.insight.neurons import Neurons, neurons_of
from dbp.insight.what_if import EXACT, what_if_in_words
from dbp.parallel import Communicator, from_rank_0
from dbp.trained.subject import Subject, subject


def _examined(
    settings: Settings, checkpoint: Checkpoint, source: str, comm: Communicator, dtype: np.dtype[np.float64] | None
) -> Subject:
    shards = int(checkpoint.progress["shards"])
    data = replace(settings.data, train=source)
    return subject(settings.model, settings.loss, checkpoint.model, data, comm, shards, dtype)


def what_if_text(
    settings: Settings, checkpoint: Checkpoint, source: str, changes: Sequence[str], comm: Communicator
) -> str:
    """What the cost over some data does when weights change as these words say; collective."""
    return str(what_if_in_words(_examined(settings, checkpoint, source, comm, EXACT), changes))


def neurons_text(
    settings: Settings,
    checkpoint: Checkpoint,
    source: str,
    comm: Communicator,
    top: int,
    out: Path | None = None,
    overwrite: bool = False,
) -> str:
    """The strongest units of each layer, and the dead ones; all figures go to an HDF5 file if asked; collective.

    Args:
        settings: of the run.
        checkpoint: of the run.
        source: the data, a file.
        comm: the ranks.
        top: how many units of each layer are shown.
        out: the file, which holds a group for each layer.
        overwrite: whether a file of that name may be replaced.
    """
    examined = partial(_examined, settings, checkpoint, source, comm, None)
    if out is None:
        return neurons_of(examined()).text(top)
    with OutputFile(out, overwrite) as file:
        from_rank_0(comm, file.create)  # before anything that takes long
        found = neurons_of(examined())
        from_rank_0(comm, _write, file, found)
    return f"{found.text(top)}\n\nall figures written to {out}"


def _write(file: OutputFile, found: Neurons) -> None:
    arrays = {f"{path}/{name}": array for path, layer in found.layers.items() for name, array in layer.arrays().items()}
    file.write_all(arrays, {"/": {"cost": found.cost, "examples": found.examples}})
    file.commit()

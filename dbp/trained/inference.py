"""What dbp eval prints and dbp predict writes: results of a checkpoint's model on a data file, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dbp.checkpoint import StoredCheckpoint, find, table_of
from dbp.config import toml
from dbp.config.settings import Settings
from dbp.cost.loader import CHUNK
from dbp.data import Dataset, OutputFile
from dbp.errors import UserError
from dbp.parallel import START_SECONDS, Communicator, abort_on_error, agree, blas_threads, from_rank_0, world
from dbp.run.sources import open_file, print_warnings
from dbp.terminal import print_output
from dbp.text import figures
from dbp.trained.evaluator import evaluator_of_checkpoint
from dbp.trained.model import TrainedModel


def with_checkpoint(path: str, action: Callable[[Settings, StoredCheckpoint, Communicator], str]) -> int:
    """Load a checkpoint, do something with its model, and print the result on rank 0; collective.

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        action: what to do; returns the text to print.

    Returns:
        the exit code of the command.
    """
    comm = world(end_after=START_SECONDS)
    checkpoint = from_rank_0(comm, _load, Path(path))
    settings = agree(comm, _settings_of, checkpoint)
    with abort_on_error(comm), blas_threads(settings.thread_count):
        text = action(settings, checkpoint, comm)
    if comm.rank == 0:
        print_output(text)
    return 0


def _load(path: Path) -> StoredCheckpoint:
    """Return what inference needs of a checkpoint, small enough to be sent to all ranks."""
    with find(path) as opened:
        found = opened.load()
    return replace(found, model=found.inference_weights(), optimizer={}, history={})


def _settings_of(checkpoint: StoredCheckpoint) -> Settings:
    """Return the settings of the run that wrote a checkpoint."""
    table = table_of(checkpoint.config)
    if (code := toml.custom_code(table["model"])) is not None:
        raise UserError(
            f"the checkpoint's model is, or contains, the Python code {code!r}, which a config cannot name; use it "
            "from Python"
        )
    table.pop("weights", None)  # those that the run began with are not needed, and their file may be gone
    return toml.settings_from(table)


def evaluate(settings: Settings, checkpoint: StoredCheckpoint, file: str, comm: Communicator) -> str:
    """Return a line with cost and metrics of a checkpoint's model on the data in a file; collective."""
    evaluator = evaluator_of_checkpoint(settings, checkpoint, file, comm)
    means = evaluator.totals().means(settings.loss.metrics)
    return f"{figures(means)}  ({len(evaluator.trained.data):,} examples)"


def predict(
    settings: Settings, checkpoint: StoredCheckpoint, file: str, out: Path, overwrite: bool, comm: Communicator
) -> str:
    """Write the outputs of a checkpoint's model for a file's inputs, and the loss's predictions from them; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint.
        file: an HDF5 file with inputs.
        out: the HDF5 file to write.
        overwrite: replace that file if it exists.
        comm: the ranks.

    Returns:
        a line that says what was written.
    """
    data = agree(comm, open_file, settings.data, file, False)
    trained = agree(comm, _trained_model, settings, checkpoint, data)
    print_warnings(comm, data)
    with OutputFile(out, overwrite) as output:
        from_rank_0(comm, output.create)
        for start in range(0, len(data), CHUNK * comm.size):
            mine = slice(start + comm.rank * CHUNK, min(start + (comm.rank + 1) * CHUNK, len(data)))
            outputs = trained.outputs(data.read(mine).inputs) if mine.start < mine.stop else None
            pieces = [piece for piece in comm.gather(outputs) if piece is not None]
            if comm.rank == 0:
                rows = np.concatenate(pieces)
                output.write_rows({"outputs": rows} | settings.loss.predict(rows), start, len(data))
        from_rank_0(comm, output.commit)
    return f"{len(data):,} predictions written to {out}"


def _trained_model(settings: Settings, checkpoint: StoredCheckpoint, data: Dataset) -> TrainedModel:
    return TrainedModel(settings.model, settings.loss, checkpoint.model, data, settings.numpy_dtype)

"""A trained model on data: cost and metrics, predictions, and what its checkpoint holds."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dbp import config
from dbp.checkpoint import Checkpoint, find
from dbp.data import Dataset, OutputFile
from dbp.display import duration, epoch_figures, figures
from dbp.errors import UserError
from dbp.loader import CHUNK, Loader
from dbp.objective import Objective
from dbp.parallel import Communicator, Layout, Shards, agree, from_rank_0
from dbp.settings import Settings
from dbp.sources import check_together, open_file
from dbp.trained import Trained


def load(path: Path) -> Checkpoint:
    """What inference needs of a checkpoint, small enough to be sent to all ranks."""
    found = find(path)[1]
    return replace(found, model=found.trained, optimizer={}, history={})


def settings_of(checkpoint: Checkpoint) -> Settings:
    """The settings of the run that wrote a checkpoint."""
    table = tomllib.loads(checkpoint.config)
    if (code := config.custom_code(table["model"])) is not None:
        raise UserError(
            f"the checkpoint's model is, or contains, the Python code {code!r}, which a config cannot name; use it "
            "from Python"
        )
    return config.settings_from(table)


def _trained(settings: Settings, checkpoint: Checkpoint, data: Dataset) -> Trained:
    return Trained(settings.model, settings.loss, checkpoint.model, data, settings.numpy_dtype)


def evaluate(settings: Settings, checkpoint: Checkpoint, source: str, comm: Communicator) -> str:
    """Cost and metrics of a checkpoint's model on a data set, over all ranks, as a line of text."""
    data = agree(comm, open_file, settings.data, source)
    model = agree(comm, _trained, settings, checkpoint, data)
    layout = Layout.of(model.parameters)
    shards = Shards(int(checkpoint.progress["shards"]), comm.rank, comm.size)
    dtype = settings.numpy_dtype
    objective = Objective(settings.model, settings.loss, layout, comm, shards, dtype, model.running)
    check_together(comm, data, model.check_targets)
    loader = Loader(data, settings.loss, model.output_shape, dtype, shards)
    totals = objective.evaluate(layout.flatten(model.parameters, dtype), loader.chunks)
    return f"{figures(totals.means(settings.loss.metrics))}  ({len(data):,} examples)"


def predict(
    settings: Settings, checkpoint: Checkpoint, source: str, out: Path, overwrite: bool, comm: Communicator
) -> str:
    """Write the outputs of a checkpoint's model for a data set's inputs, and what the loss makes of them."""
    data = agree(comm, open_file, settings.data, source, False)
    model = agree(comm, _trained, settings, checkpoint, data)
    file = OutputFile(out, len(data), overwrite)
    from_rank_0(comm, file.prepare)
    try:
        for start in range(0, len(data), CHUNK * comm.size):
            mine = slice(start + comm.rank * CHUNK, min(start + (comm.rank + 1) * CHUNK, len(data)))
            outputs = model.outputs(data.read(mine).inputs) if mine.start < mine.stop else None
            pieces = [piece for piece in comm.gather(outputs) if piece is not None]
            if comm.rank == 0:
                whole = np.concatenate(pieces)
                file.write(start, {"outputs": whole} | settings.loss.predict(whole))
        from_rank_0(comm, file.finish)
    finally:
        if comm.rank == 0:
            file.discard()
    return f"{len(data):,} predictions written to {out}"


def describe(path: Path, checkpoint: Checkpoint) -> str:
    """What a checkpoint holds, in lines of text."""
    progress = dict(checkpoint.progress)
    state = "finished" if progress["finished"] else f"in epoch {int(progress['epoch']) + 1}"
    lines = [
        f"{path}",
        f"{state}: {progress['epoch']} epochs, {progress['step']} steps, {duration(float(progress['elapsed']))}",
        f"shards {progress['shards']}, seed {progress['seed']}",
    ]
    if checkpoint.history:
        last = {name: float(column[-1]) for name, column in checkpoint.history.items()}
        lines += [
            f"last epoch: {epoch_figures(last)}",
            f"best epoch: {progress['best_epoch']} (cost {progress['best_cost']:.4f})",
        ]
    lines += ["", "made with"]
    lines += [f"  {name:10} {value}" for name, value in checkpoint.provenance.items()]
    lines += ["", "arrays", *_table(checkpoint), "", "config", *_indented(checkpoint.config)]
    return "\n".join(lines)


def _table(checkpoint: Checkpoint) -> list[str]:
    rows: list[tuple[str, Any]] = [(f"/{name}", array) for name, array in checkpoint.arrays()]
    width = max(len(name) for name, _ in rows)
    return [f"  {name:{width}}  {array.dtype}  {' x '.join(map(str, array.shape))}" for name, array in rows]


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.strip().splitlines()]

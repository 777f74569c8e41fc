"""A trained model on data: cost and metrics, predictions, and what its checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dbp.checkpoint import Checkpoint, Opened, find, table_of
from dbp.config import toml
from dbp.config.settings import Settings
from dbp.cost.loader import CHUNK, Loader
from dbp.cost.objective import Objective
from dbp.data import Dataset, OutputFile
from dbp.errors import UserError
from dbp.parallel import Communicator, Layout, Shards, agree, from_rank_0
from dbp.run.sources import check_together, open_file
from dbp.text import duration, epoch_figures, figures, shape_text, table
from dbp.trained.model import Trained

EPOCHS = 10  # of the history that are shown


def load(path: Path) -> Checkpoint:
    """What inference needs of a checkpoint, small enough to be sent to all ranks."""
    with find(path) as opened:
        found = opened.load()
    return replace(found, model=found.trained, optimizer={}, history={})


def settings_of(checkpoint: Checkpoint) -> Settings:
    """The settings of the run that wrote a checkpoint."""
    table = table_of(checkpoint.config)
    if (code := toml.custom_code(table["model"])) is not None:
        raise UserError(
            f"the checkpoint's model is, or contains, the Python code {code!r}, which a config cannot name; use it "
            "from Python"
        )
    table.pop("weights", None)  # that it began with are of no use, and may be no file's
    return toml.settings_from(table)


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
    with OutputFile(out, overwrite) as file:
        from_rank_0(comm, file.create)
        for start in range(0, len(data), CHUNK * comm.size):
            mine = slice(start + comm.rank * CHUNK, min(start + (comm.rank + 1) * CHUNK, len(data)))
            outputs = model.outputs(data.read(mine).inputs) if mine.start < mine.stop else None
            pieces = [piece for piece in comm.gather(outputs) if piece is not None]
            if comm.rank == 0:
                whole = np.concatenate(pieces)
                file.write_rows({"outputs": whole} | settings.loss.predict(whole), start, len(data))
        from_rank_0(comm, file.commit)
    return f"{len(data):,} predictions written to {out}"


def describe(found: Opened) -> str:
    """What a checkpoint holds, in lines of text."""
    progress = found.progress
    state = "finished" if progress["finished"] else f"in epoch {int(progress['epoch']) + 1}"
    lines = [
        f"{found.path}",
        f"{state}: {progress['epoch']} epochs, {progress['step']} steps, {duration(float(progress['elapsed']))}",
        f"shards {progress['shards']}, seed {progress['seed']}",
    ]
    columns = {name[8:]: found.array(name) for name in found.entries if name.startswith("history/")}
    if columns:
        lines += [f"best epoch: {progress['best_epoch']} ({progress['best_value']:.4g})", "", *_history(columns)]
    lines += ["", "progress", *_pairs(progress), "", "made with", *_pairs(found.provenance)]
    arrays = [[f"/{e.name}", str(np.dtype(e.dtype)), shape_text(e.shape)] for e in found.entries.values()]
    shown = "\n".join(table(arrays, left=range(3)))
    lines += ["", "arrays", *_indented(shown), "", "config", *_indented(found.config)]
    return "\n".join(lines)


def _history(columns: Mapping[str, Any]) -> list[str]:
    """The last epochs."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    title = "history" if len(rows) <= EPOCHS else f"history (the last {EPOCHS} of {len(rows)} epochs)"
    return [title, *(f"  {int(row['epoch'])}  {epoch_figures(row)}" for row in rows[-EPOCHS:])]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"  {name:{width}}  {value}" for name, value in values.items()]


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.strip().splitlines()]

"""The contents of a checkpoint, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.checkpoint import Opened
from dbp.data import parse_meaning
from dbp.text import duration, epoch_figures, shape_text, table

SHOWN_EPOCHS = 10  # the last epochs of the history


def describe(found: Opened) -> str:
    """Return lines on a checkpoint's progress, history, origin, arrays and config."""
    progress = found.progress
    state = "finished" if progress["finished"] else f"in epoch {int(progress['epoch']) + 1}"
    lines = [
        f"{found.path}",
        f"{state}: {progress['epoch']} epochs, {progress['step']} steps, {duration(float(progress['elapsed']))}",
        f"shards {progress['shards']}, seed {progress['seed']}",
    ]
    columns = {
        name.removeprefix("history/"): found.array(name) for name in found.entries if name.startswith("history/")
    }
    if columns:
        lines += [f"best epoch: {progress['best_epoch']} ({progress['best_value']:.4g})", "", *_history(columns)]
    if meaning := parse_meaning(found.meaning):
        lines += ["", "data", *_pairs(meaning)]
    lines += ["", "progress", *_pairs(progress), "", "made with", *_pairs(found.provenance)]
    arrays = [[f"/{e.name}", str(np.dtype(e.dtype)), shape_text(e.shape)] for e in found.entries.values()]
    shown = "\n".join(table(arrays, left=range(3)))
    lines += ["", "arrays", *_indented(shown), "", "config", *_indented(found.config)]
    return "\n".join(lines)


def _history(columns: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the last epochs."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    title = "history" if len(rows) <= SHOWN_EPOCHS else f"history (the last {SHOWN_EPOCHS} of {len(rows)} epochs)"
    return [title, *(f"  {int(row['epoch'])}  {epoch_figures(row)}" for row in rows[-SHOWN_EPOCHS:])]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"  {name:{width}}  {value}" for name, value in values.items()]


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.strip().splitlines()]

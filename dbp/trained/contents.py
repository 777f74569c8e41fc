"""The contents of a checkpoint, as text."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dbp.checkpoint import Opened
from dbp.data import parse_meaning
from dbp.text import COUNTS, INDENT, WIDTH, count_text, duration, figure, joined, shape_text, size, table
from dbp.types import Array

SHOWN_EPOCHS = 10  # the last epochs of the history, where everything is shown
BRIEF_EPOCHS, BRIEF_ROWS = 4, 5  # where it is not: the last epochs, and numbers of each
EPOCHS_BESIDE = 4  # in a table
# What the numbers of a run's progress are, in the words of the docs; {} stands for the rest of a name.
PROGRESS = {
    "finished": "finished",
    "outcome": "ended before its last epoch, as",
    "epoch": "complete epochs",
    "step": "steps",
    "step_in_epoch": "steps of the current epoch",
    "epoch_weight": "sum of example weights, this epoch",
    "epoch_loss": "sum of losses, this epoch",
    "epoch_": "sum of {}, this epoch",
    "evaluations": "evaluations of the cost",
    "products": "products with second derivatives",
    "length": "last learning rate or step length",
    "best_epoch": "best epoch",
    "best_step": "step at its end",
    "best_value": "its value",
    "best_by": "column that it is of",
    "elapsed": "seconds of training",
    "seed": "seed",
    "shards": "shards",
    "class_weights": "class weights",
    "loss_source": "digest of the source of the loss",
    "schedule_source": "digest of the source of the schedule",
    "data_": "digest of the {} data",
    "examples": "training examples",
    "input_shape": "shape of their inputs",
    "residuals_weight": "example weight of the residuals",
    "skipped_steps": "skipped steps",
    "skipped_in_a_row": "skipped steps in a row",
    "rollbacks": "rollbacks since the failed step",
    "failed_step": "failed step",
    "last_checkpoint_step": "step to roll back to",
    "previous_checkpoint_step": "step of the rollback before it",
    "rate_factor": "factor on the learning rate by rollbacks",
}


def describe(found: Opened) -> str:
    """Return at most 15 lines on a checkpoint: progress, last epochs, size of the model, origin."""
    columns = _columns(found)
    model = [entry for entry in found.entries.values() if entry.name.startswith("model/")]
    vectors = {name.split("/")[1] for name in found.entries if name.startswith("optimizer/")}
    sizes = f"model: {sum(math.prod(entry.shape) for entry in model):,} numbers in {count_text(len(model), 'array')}"
    made_with = (f"{name} {found.provenance[name]}" for name in ("dbp", "python", "numpy") if name in found.provenance)
    lines = [*_head(found), *(["", *_brief_history(columns)] if columns else [])]
    lines += ["", f"{sizes}; optimizer: {count_text(len(vectors), 'such vector')}; {size(found.size)} in all"]
    return "\n".join([*lines, f"made with {', '.join(made_with)}; --all shows the rest"])


def describe_all(found: Opened) -> str:
    """Return lines on a checkpoint's progress, history, origin, arrays and config."""
    columns = _columns(found)
    lines = [*_head(found), *(["", *_history(columns)] if columns else [])]
    if meaning := parse_meaning(found.meaning):
        lines += ["", "data", *_pairs(meaning)]
    lines += ["", "progress", *_pairs(_in_words(found.progress)), "", "made with", *_pairs(found.provenance)]
    arrays = [[str(np.dtype(e.dtype)), shape_text(e.shape), f"/{e.name}"] for e in found.entries.values()]
    lines += ["", "arrays", *(f"  {line}" for line in table(arrays, left=range(3)))]
    return "\n".join([*lines, "", "config", *_config_lines(found.config)])


def _columns(found: Opened) -> dict[str, Array]:
    """Return the columns of the history by their names."""
    return {name.removeprefix("history/"): found.array(name) for name in found.entries if name.startswith("history/")}


def _head(found: Opened) -> list[str]:
    progress = found.progress
    state = "finished" if progress["finished"] else f"in epoch {int(progress['epoch']) + 1}"
    lines = [
        f"{found.path}",
        f"{state}: {_done(progress)}",
        f"shards {progress['shards']}, seed {progress['seed']}",
    ]
    best = f"best epoch: {progress['best_epoch']} ({progress['best_value']:.4g})"
    return [*lines, best] if progress["best_epoch"] else lines


def _brief_history(columns: Mapping[str, Array]) -> list[str]:
    """Return the costs and some of the metrics of the last epochs, a line for each."""
    names = sorted((name for name in columns if name not in COUNTS), key=lambda name: not name.endswith("cost"))
    return _epochs_table(columns, names[:BRIEF_ROWS], slice(-BRIEF_EPOCHS, None))


def _epochs_table(columns: Mapping[str, Array], names: Sequence[str], epochs: slice) -> list[str]:
    """Return a table with a line for each column of the history; a name without room beside figures continues below."""
    head = [f"{epoch:.0f}" for epoch in columns["epoch"][epochs]]
    figures = [[*map(figure, columns[name][epochs])] for name in names]
    room = WIDTH - 2 - sum(2 + max(map(len, column)) for column in zip(head, *figures, strict=True))
    rows = [["epoch", *head]]
    for name, numbers in zip(names, figures, strict=True):
        first, *rest = textwrap.wrap(name.replace("_", " "), room, subsequent_indent="  ")
        rows += [[first, *numbers], *([part, *[""] * len(head)] for part in rest)]
    return table(rows, left=(0,))


def _done(progress: Mapping[str, Any]) -> str:
    """Return epochs, steps and time of a run."""
    counts = [count_text(int(progress[thing]), thing) for thing in ("epoch", "step")]
    return ", ".join([*counts, duration(float(progress["elapsed"]))])


def _history(columns: Mapping[str, Array]) -> list[str]:
    """Return tables of the costs and metrics of the last epochs, some epochs beside one another."""
    count, names = len(columns["epoch"]), [name for name in columns if name not in COUNTS]
    lines = ["history" if count <= SHOWN_EPOCHS else f"history (the last {SHOWN_EPOCHS} of {count} epochs)"]
    for start in range(max(0, count - SHOWN_EPOCHS), count, EPOCHS_BESIDE):
        part = _epochs_table(columns, names, slice(start, start + EPOCHS_BESIDE))
        lines += [*([""] if len(lines) > 1 else []), *(f"  {line}" for line in part)]
    return lines


def _in_words(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a run's progress by what it is, in the order of PROGRESS."""
    found = {}
    for beginning, words in PROGRESS.items():
        for name, value in progress.items():
            if name == beginning or (beginning.endswith("_") and name.startswith(beginning) and name not in PROGRESS):
                shown = value.replace("_", " ") if name == "best_by" else value
                found[words.format(name.removeprefix(beginning))] = shown
    return found


def _pairs(values: Mapping[str, Any]) -> list[str]:
    """Return lines of names with their values beside them, or below them where these are too long."""
    width = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        words = (str(value) or "-").split(" ")
        beside = joined([f"  {name:{width}} ", *words], indent=" " * (width + 4))
        below = [f"  {name}", *joined([f"{INDENT}  {words[0]}", *words[1:]], indent=f"{INDENT}  ")]
        lines += below if max(map(len, beside)) > WIDTH else beside
    return lines


def _config_lines(config: str) -> list[str]:
    """Return the lines of a config, long ones continued after a comma."""
    lines = []
    for line in config.strip().splitlines():
        first = f"  {line}"
        indent = first[: len(first) - len(first.lstrip())] + INDENT
        lines += joined(re.split("(?<=,) ", first), indent=indent) if line else [""]
    return lines

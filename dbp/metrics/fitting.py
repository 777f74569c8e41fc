"""Fit metrics to the targets of a run: whether they can be taken of them, and the names of their columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbp.errors import UserError
from dbp.metrics.metric_set import VALIDATION
from dbp.metrics.predictions import TargetForm
from dbp.nn import ANSWERS, CLASSES, NUMBERS

MOST_COLUMNS = 100  # of classes or outputs; with more of them a metric has none for each
LONGEST_NAME = 40  # letters of the name of a class or output in that of a column
AVERAGES = MACRO, MICRO, WEIGHTED = ("macro", "micro", "weighted")
# The columns of the history that are no metrics.
TAKEN = ("cost", "epoch", "step", "evaluations", "products", "skipped", "learning_rate", "step_length", "seconds")
IN_WORDS = {CLASSES: "classes", ANSWERS: "answers yes or no", NUMBERS: "numbers"}
FITTING = {
    CLASSES: "accuracy, f1 or top_k",
    ANSWERS: "accuracy, f1 or auc",
    NUMBERS: "mae, rmse or r2",
}


def check_targets_are(kinds: Sequence[str], metric: str, form: TargetForm) -> None:
    """Raise UserError unless the targets of a run are of one of these kinds."""
    if form.kind in kinds:
        return
    wanted = " or ".join(IN_WORDS[kind] for kind in kinds)
    if form.kind not in IN_WORDS:
        raise UserError(
            f"metric {metric!r} is one of {wanted}, but the loss {form.loss!r} does not say what its targets are; give "
            f"it the attribute targets_are = {kinds[0]!r}, or take a metric of your own, see dbp.metrics.Metric; of a "
            f"function that is dbp.nn.FunctionLoss(function, {kinds[0]!r})"
        )
    raise UserError(
        f"metric {metric!r} is one of {wanted}, but the targets of the loss {form.loss!r} are {IN_WORDS[form.kind]}; "
        f"take metrics of those, such as {FITTING[form.kind]}"
    )


def columns_of_each(name: str, form: TargetForm) -> list[str]:
    """Return the columns of a metric for each class or output; none for a single output, or too many of them."""
    if not 1 < form.count <= MOST_COLUMNS:
        return []
    return [f"{name}_{one}" for one in safe_names(form.names or [str(i) for i in range(form.count)])]


def safe_names(names: Sequence[str]) -> list[str]:
    """Return names of classes or outputs as parts of identifiers, all different: other characters become underscores.

    A name that would be that of an average, or that of another class, is followed by the number of its class.
    """
    found: list[str] = []
    for number, name in enumerate(names):
        safe = re.sub(r"\W", "_", name)[:LONGEST_NAME] or "_"
        if safe in (*found, *AVERAGES):
            safe = f"{safe}_{number}"
        while safe in found:
            safe += "_"
        found.append(safe)
    return found


def check_name(name: object) -> None:
    """Raise UserError unless a metric of one's own can have this name as a column of the history."""
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"the name of a metric must be an identifier, such as 'within_10_percent', but is {name!r}")
    if name in TAKEN or name.startswith(VALIDATION):
        raise UserError(f"the name of a metric must not be that of a column of the history, but is {name!r}; change it")

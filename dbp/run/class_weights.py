"""The class weights of a run's loss: from its checkpoint, from the table in its settings, or by a pass over data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from dbp.errors import DataError
from dbp.nn import Loss
from dbp.nn.losses.class_weights import BALANCED, ClassWeighted, balanced
from dbp.parallel import Communicator, agree
from dbp.reading.shard import Shard
from dbp.types import Array

CLASS_WEIGHTS = "class_weights"  # in the progress of a checkpoint: the factors, as JSON


def has_class_weights(loss: Loss) -> bool:
    """Return True if a loss has class weights, whose factors depend on the data."""
    return isinstance(loss, ClassWeighted) and loss.class_weights is not None


def with_class_weights(
    comm: Communicator,
    loss: Loss,
    output_shape: tuple[int, ...],
    classes: Sequence[str],
    progress: Mapping[str, Any],
    totals: Callable[[Callable[[Shard], Array]], Array],
) -> Loss:
    """Return the loss of a run with the factors of its classes; collective.

    Args:
        comm: the ranks.
        loss: of the settings.
        output_shape: of the model, for one example.
        classes: the names of the classes; empty if they are not known.
        progress: of the checkpoint that the run resumes from, which keeps balanced factors; empty without one, or if
            its loss had other settings.
        totals: returns sums over the training data, given a function that returns those over some examples.

    Raises:
        UserError: the table names a class that there is not.
        PassStoppedError: a rank has been asked to stop during the pass over the data.
    """
    if not has_class_weights(loss):
        return loss
    weighted = cast("Any", loss)
    if weighted.class_weights != BALANCED:
        factors = agree(comm, weighted.factors_of_table, output_shape, classes)
    elif CLASS_WEIGHTS in progress:
        return with_stored_weights(loss, progress)
    else:
        factors = balanced(totals(lambda x: weighted.class_totals(x.targets, x.example_weights, output_shape)))
    return cast("Loss", weighted.with_factors(factors))


def with_stored_weights(loss: Loss, progress: Mapping[str, Any]) -> Loss:
    """Return a loss with the factors that a checkpoint keeps, if it has class weights and the checkpoint keeps some.

    Raises:
        DataError: what it keeps was not written by a run.
    """
    if not has_class_weights(loss) or CLASS_WEIGHTS not in progress:
        return loss
    try:
        factors = np.array(json.loads(progress[CLASS_WEIGHTS]), np.float64)
        valid = factors.ndim in (1, 2) and bool(np.isfinite(factors).all() and (factors >= 0).all())
    except (TypeError, ValueError, RecursionError):
        valid = False
    if not valid:
        raise DataError(f"its {CLASS_WEIGHTS} were not written by a run")
    return cast("Loss", cast("Any", loss).with_factors(factors))


def class_weights_text(loss: Loss) -> dict[str, str]:
    """Return what a checkpoint keeps of the class weights of a loss; nothing without any."""
    factors = cast("Any", loss).factors if has_class_weights(loss) else None
    return {} if factors is None else {CLASS_WEIGHTS: json.dumps(factors.tolist())}

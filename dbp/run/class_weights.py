"""The class weights of a run's loss: from its checkpoint, from the table in its settings, or by a pass over data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any, cast

import numpy as np

from dbp.data import Meaning
from dbp.errors import DataError
from dbp.nn import JointLoss, Loss
from dbp.nn.losses.class_weights import BALANCED, ClassWeighted, balanced
from dbp.parallel import Communicator, agree
from dbp.reading.output_form import Form, OutputForm
from dbp.reading.shard import Shard
from dbp.types import Array

CLASS_WEIGHTS = "class_weights"  # in the progress of a checkpoint: the factors, as JSON; of several targets, by name
NOT_VALID = f"its {CLASS_WEIGHTS} were not written by a run"


def has_class_weights(loss: Any) -> bool:
    """Return True if a loss has class weights, whose factors depend on the data."""
    return isinstance(loss, ClassWeighted) and loss.class_weights is not None


def with_class_weights(
    comm: Communicator,
    form: Form,
    meaning: Meaning,
    progress: Mapping[str, Any],
    totals: Callable[[Callable[[Shard], Array]], Array],
) -> Any:
    """Return the loss of a run with the factors of its classes, or those of each target; collective.

    Args:
        comm: the ranks.
        form: of the model's outputs, with the loss of the settings.
        meaning: of the data, with the names of the classes.
        progress: of the checkpoint that the run resumes from, which keeps balanced factors; empty without one, or if
            its loss had other settings.
        totals: returns sums over the training data, given a function that returns those over some examples.

    Raises:
        UserError: the table names a class that there is not.
        PassStoppedError: a rank has been asked to stop during the pass over the data.
    """
    if isinstance(form, OutputForm):
        classes = meaning["targets"].classes if "targets" in meaning else None
        return _with_factors(comm, form, classes or (), _stored(progress), totals, lambda shard: shard)
    stored, found = _stored(progress), {}
    for name, one in form.forms.items():
        known = stored.get(name) if isinstance(stored, Mapping) else None
        classes = meaning[f"targets.{name}"].classes if f"targets.{name}" in meaning else None
        alone = methodcaller("of_target", name)
        found[name] = _with_factors(comm, one, classes or (), known, totals, alone)
    return form.loss.with_losses(found)


def _with_factors(
    comm: Communicator,
    form: OutputForm,
    classes: Sequence[str],
    stored: Any,
    totals: Callable[[Callable[[Shard], Array]], Array],
    alone: Callable[[Shard], Shard],
) -> Loss:
    """Return the loss of one target with the factors of its classes.

    Args:
        comm: the ranks.
        form: of the output for the target.
        classes: their names; empty if they are not known.
        stored: the factors that a checkpoint keeps; None if it keeps none.
        totals: see with_class_weights().
        alone: returns a shard with this target as the only one.
    """
    loss, shape = form.loss, form.shape
    if not has_class_weights(loss):
        return loss
    weighted = cast("Any", loss)
    if weighted.class_weights != BALANCED:
        factors = agree(comm, weighted.factors_of_table, shape, classes)
    elif stored is not None:
        factors = _checked(stored)
    else:

        def of_examples(shard: Shard) -> Array:
            one = alone(shard)
            found: Array = weighted.class_totals(one.targets, one.example_weights, shape)
            return found

        factors = balanced(totals(of_examples))
    return cast("Loss", weighted.with_factors(factors))


def with_stored_weights(loss: Any, progress: Mapping[str, Any]) -> Any:
    """Return a loss with the factors that a checkpoint keeps, if it has class weights and the checkpoint keeps some.

    Raises:
        DataError: what it keeps was not written by a run.
    """
    stored = _stored(progress)
    if isinstance(loss, JointLoss):
        by_target = stored if isinstance(stored, Mapping) else {}
        weighted = {name: part.loss for name, part in loss.parts.items() if has_class_weights(part.loss)}
        known = {name: cast("Any", one) for name, one in weighted.items() if name in by_target}
        return loss.with_losses({n: one.with_factors(_checked(by_target[n])) for n, one in known.items()})
    if not has_class_weights(loss) or stored is None:
        return loss
    if isinstance(stored, Mapping) and len(stored) == 1:  # of a single target with a name
        stored = next(iter(stored.values()))
    return loss.with_factors(_checked(stored))


def _stored(progress: Mapping[str, Any]) -> Any:
    """Return what a checkpoint keeps of the factors, or of those by target; None if it keeps none."""
    if CLASS_WEIGHTS not in progress:
        return None
    try:
        return json.loads(progress[CLASS_WEIGHTS])
    except (TypeError, ValueError, RecursionError):
        raise DataError(NOT_VALID) from None


def _checked(stored: Any) -> Array:
    """Return factors that a checkpoint keeps; raise DataError if no run has written them."""
    try:
        factors = np.array(stored, np.float64)
    except (TypeError, ValueError):
        raise DataError(NOT_VALID) from None
    if factors.ndim not in (1, 2) or not np.isfinite(factors).all() or (factors < 0).any():
        raise DataError(NOT_VALID)
    return factors


def class_weights_text(loss: Any) -> dict[str, str]:
    """Return what a checkpoint keeps of the class weights of a loss, or of each target's; nothing without any."""
    if isinstance(loss, JointLoss):
        found = {name: _factors(part.loss) for name, part in loss.parts.items()}
        known: Any = {name: factors.tolist() for name, factors in found.items() if factors is not None}
    else:
        factors = _factors(loss)
        known = None if factors is None else factors.tolist()
    return {CLASS_WEIGHTS: json.dumps(known)} if known else {}


def _factors(loss: Any) -> Array | None:
    return loss.factors if has_class_weights(loss) else None

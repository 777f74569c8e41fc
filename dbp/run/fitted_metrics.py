"""The metrics of a run or of a trained model, fitted to its loss and its data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.cost.mini_batch import ExampleSums
from dbp.data import FLOATS, ColumnMeaning, Meaning
from dbp.errors import PassStoppedError, UserError
from dbp.metrics.means import Accuracy, MeanAbsoluteError
from dbp.metrics.metric_set import MetricKind, MetricSet
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import CLASSES, JointLoss, Loss
from dbp.parallel import Communicator, Shards, agree, from_rank_0
from dbp.reading.loader import Loader, TargetLoader
from dbp.run.sources import stop_check
from dbp.run.standardization import meaning_of_target
from dbp.text import shortened
from dbp.types import Array, Shape, Shapes

if TYPE_CHECKING:
    from dbp.cost.all_outputs import AllOutputs, AllOutputsOfTargets

Metrics = Any  # of settings: a sequence of metrics, one for each of several targets by name, or None


def kinds_of(loss: Loss) -> list[MetricKind]:
    """Return the metrics that a loss reports where a run sets none, before they are fitted."""
    known: dict[str, type[Any]] = {Accuracy.kind: Accuracy, MeanAbsoluteError.kind: MeanAbsoluteError}
    kinds = getattr(loss, "default_metrics", ())
    if not known.keys() >= set(kinds):
        from dbp.metrics.registry import as_metrics  # which the losses of dbp do not need

        return [*as_metrics(kinds)]
    return [known[kind]() for kind in kinds]


def default_metrics(loss: Any) -> MetricSet:
    """Return the metrics that a loss, or the losses of several targets, report where a run sets none."""
    if isinstance(loss, JointLoss):
        from dbp.metrics.joint import JointMetrics  # which a run with one target does not need

        return JointMetrics({name: default_metrics(part.loss) for name, part in loss.parts.items()}, loss.weights)
    return MetricSet.of(kinds_of(loss), TargetForm.of(loss))


def with_others(metrics: Metrics, others: Sequence[MetricKind], loss: Any) -> Metrics:
    """Return metrics as settings have them, and others besides, which are those of every target."""
    if not others:
        return metrics
    if not isinstance(loss, JointLoss):
        return [*(kinds_of(loss) if metrics is None else metrics), *others]
    if metrics is None:
        metrics = {name: kinds_of(part.loss) for name, part in loss.parts.items()}
    if isinstance(metrics, Mapping):
        return {name: [*metrics.get(name, ()), *others] for name in loss.parts}
    return [*metrics, *others]


def fitted_metrics(
    comm: Communicator, metrics: Metrics, loss: Any, output_shape: Shapes, meaning: Meaning, loader: Loader
) -> MetricSet:
    """Return metrics fitted to the data that a loader reads; collective.

    Args:
        comm: the ranks.
        metrics: as settings have them; None for those that the loss reports by default.
        loss: the loss, or a JointLoss.
        output_shape: of the model, for one example; of several targets, by name.
        meaning: of the data, with the names of targets and what they are standardized by.
        loader: reads the data; its first example is read on rank 0 if a metric needs to see one.

    Raises:
        UserError: a metric does not fit the loss or the data.
    """
    if metrics is None:
        return default_metrics(loss)
    if not isinstance(loss, JointLoss):
        if isinstance(metrics, Mapping):
            raise UserError(
                f"metrics names the targets {shortened([*metrics])}, but the targets of the data have no names; give a "
                "list of metrics"
            )
        form = _form(comm, metrics, loss, output_shape, meaning.get("targets", ColumnMeaning(FLOATS)), loader)
        return agree(comm, MetricSet.of, metrics, form)
    from dbp.metrics.joint import JointMetrics, metrics_by_target

    every = [m for one in metrics.values() for m in one] if isinstance(metrics, Mapping) else metrics
    forms = {
        name: _form(
            comm, every, part.loss, output_shape[name], meaning_of_target(meaning, name), loader.of_target(name)
        )
        for name, part in loss.parts.items()
    }

    def fit() -> MetricSet:
        chosen = metrics_by_target(metrics, forms)
        return JointMetrics({name: _set_of(name, chosen[name], form) for name, form in forms.items()}, loss.weights)

    return agree(comm, fit)


def _set_of(name: str, metrics: Sequence[MetricKind], form: TargetForm) -> MetricSet:
    """Return the metrics of a named target; raise UserError, which names it, if one does not fit."""
    try:
        return MetricSet.of(metrics, form)
    except UserError as error:
        raise UserError(f"target {name!r}: {error}") from None


def _form(
    comm: Communicator,
    metrics: Sequence[Any],
    loss: Loss,
    shape: Shape,
    targets: ColumnMeaning,
    loader: Loader | TargetLoader,
) -> TargetForm:
    """Return the form of one target, with a sample if a metric needs to see one; collective."""
    form = TargetForm.of(loss, shape, targets)
    if any(getattr(metric, "needs_sample", False) for metric in metrics):
        return replace(form, sample=from_rank_0(comm, _sample, form, shape, targets, loader))
    return form


def _sample(
    form: TargetForm, output_shape: Shape, meaning: ColumnMeaning, loader: Loader | TargetLoader
) -> Predictions:
    """Return outputs of zeros beside the targets of the first example, in the units of the data."""
    first = loader.first()
    targets = meaning.standardization.undo(first.targets)
    sample = targets_sample(form, output_shape, targets, loader.dtype)
    return Predictions(sample.outputs, sample.targets, first.example_weights)


def targets_sample(form: TargetForm, output_shape: Shape, targets: Array, dtype: np.dtype[Any]) -> Predictions:
    """Return outputs of zeros beside some targets, which may have fewer positions than the longest example."""
    shape: Shape = (len(targets), *output_shape)
    if form.kind == CLASSES and targets.ndim == len(output_shape):
        shape = (*targets.shape, form.count)
    elif form.kind:
        shape = targets.shape
    return Predictions(np.zeros(shape, dtype), targets)


def all_outputs(
    metrics: MetricSet, comm: Communicator, examples: int, output_shape: Shapes, itemsize: int
) -> AllOutputs | AllOutputsOfTargets | None:
    """Return what keeps the outputs of an evaluation, if a metric needs all of them; collective.

    Args:
        metrics: of the run.
        comm: the ranks.
        examples: their number.
        output_shape: of the model, for one example; of several targets, by name.
        itemsize: of an output, in bytes.

    Raises:
        UserError: they do not fit in this machine's memory.
    """
    if not metrics.rankings:
        return None
    from dbp.cost.all_outputs import AllOutputs, AllOutputsOfTargets

    if isinstance(output_shape, Mapping):
        named: Any = metrics
        kept_by_name = {name: AllOutputs(one.rankings, comm) for name, one in named.sets.items() if one.rankings}
        for name, one in kept_by_name.items():
            one.check_memory(examples * math.prod(output_shape[name]), itemsize)
        return AllOutputsOfTargets(kept_by_name)
    kept = AllOutputs(metrics.rankings, comm)
    kept.check_memory(examples * math.prod(output_shape), itemsize)
    return kept


def check_evaluated(
    metrics: MetricSet, comm: Communicator, loader: Any, output_shape: Shapes, shards: Shards, data: str
) -> None:
    """Raise UserError if a metric that needs all outputs can have no value on a data set; collective.

    Args:
        metrics: of the run, some of which need all outputs.
        comm: the ranks.
        loader: reads the data, of which this rank's shards are read.
        output_shape: of the model, for one example; of several targets, by name.
        shards: of this rank.
        data: the name of the data, for messages.

    Raises:
        PassStoppedError: a rank has been asked to stop; a short pass is finished all the same.
    """
    if isinstance(output_shape, Mapping):
        named: Any = metrics
        for name, one in named.sets.items():
            if one.rankings:
                check_evaluated(one, comm, loader.of_target(name), output_shape[name], shards, data)
        return
    from dbp.cost.all_outputs import AllOutputs

    stops, cut, form = stop_check(comm), False, metrics.rankings[0].form

    def targets() -> Iterator[Predictions]:
        nonlocal cut
        for chunk in (chunk for number in shards.mine for chunk in loader.chunks(number)):
            if cut := cut or stops():
                return
            sample = targets_sample(form, output_shape, chunk.targets, loader.dtype)
            yield Predictions(sample.outputs, sample.targets, chunk.example_weights)

    kept = AllOutputs(metrics.rankings, comm)
    presence = agree(comm, kept.presence, targets())
    if any(comm.gather(cut)):
        raise PassStoppedError
    kept.check_presence(presence, data)


def values_of(
    totals: ExampleSums, metrics: MetricSet, kept: AllOutputs | AllOutputsOfTargets | None, data: str
) -> dict[str, float]:
    """Return cost and metrics of an evaluation by column, in the order of the settings; collective.

    Args:
        totals: the sums over the examples.
        metrics: of the run.
        kept: the outputs, if a metric needs all of them.
        data: the name of the data, for messages.
    """
    values = totals.values(metrics) | ({} if kept is None else kept.values(data))
    return {name: values[name] for name in ("cost", *metrics.columns)}

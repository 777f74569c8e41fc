"""The metrics of a run or of a trained model, fitted to its loss and its data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.cost.mini_batch import ExampleSums
from dbp.data import ColumnMeaning
from dbp.errors import PassStoppedError
from dbp.metrics.means import Accuracy, MeanAbsoluteError
from dbp.metrics.metric_set import MetricKind, MetricSet
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import CLASSES, Loss
from dbp.parallel import Communicator, Shards, agree, from_rank_0
from dbp.reading.loader import Loader
from dbp.run.sources import stop_check
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.cost.all_outputs import AllOutputs

Shape = tuple[int, ...]


def kinds_of(loss: Loss) -> list[MetricKind]:
    """Return the metrics that a loss reports where a run sets none, before they are fitted."""
    known: dict[str, type[Any]] = {Accuracy.kind: Accuracy, MeanAbsoluteError.kind: MeanAbsoluteError}
    kinds = getattr(loss, "default_metrics", ())
    if not known.keys() >= set(kinds):
        from dbp.metrics.registry import as_metrics  # which the losses of dbp do not need

        return [*as_metrics(kinds)]
    return [known[kind]() for kind in kinds]


def default_metrics(loss: Loss) -> MetricSet:
    """Return the metrics that a loss reports where a run sets none."""
    return MetricSet.of(kinds_of(loss), TargetForm.of(loss))


def fitted_metrics(
    comm: Communicator,
    metrics: Sequence[MetricKind] | None,
    loss: Loss,
    output_shape: Shape,
    targets: ColumnMeaning,
    loader: Loader,
) -> MetricSet:
    """Return metrics fitted to the data that a loader reads; collective.

    Args:
        comm: the ranks.
        metrics: as settings have them; None for those that the loss reports by default.
        loss: the loss.
        output_shape: of the model, for one example.
        targets: the meaning of the targets, with their names and what they are standardized by.
        loader: reads the data; its first example is read on rank 0 if a metric needs to see one.

    Raises:
        UserError: a metric does not fit the loss or the data.
    """
    if metrics is None:
        return default_metrics(loss)
    form = TargetForm.of(loss, output_shape, targets)
    if any(getattr(metric, "needs_sample", False) for metric in metrics):
        form = replace(form, sample=from_rank_0(comm, _sample, form, output_shape, targets, loader))
    return agree(comm, MetricSet.of, metrics, form)


def _sample(form: TargetForm, output_shape: Shape, meaning: ColumnMeaning, loader: Loader) -> Predictions:
    """Return outputs of zeros beside the targets of the first example, in the units of the data."""
    first = loader.first()
    targets = meaning.standardization.undo(first.targets)
    sample = targets_sample(form, output_shape, targets, first.inputs.dtype)
    return Predictions(sample.outputs, sample.targets, first.example_weights)


def targets_sample(form: TargetForm, output_shape: Shape, targets: Array, dtype: np.dtype[Any]) -> Predictions:
    """Return outputs of zeros beside some targets, which may have fewer places than those for the longest example."""
    shape: Shape = (len(targets), *output_shape)
    if form.kind == CLASSES and targets.ndim == len(output_shape):
        shape = (*targets.shape, form.count)
    elif form.kind:
        shape = targets.shape
    return Predictions(np.zeros(shape, dtype), targets)


def all_outputs(
    metrics: MetricSet, comm: Communicator, examples: int, output_shape: Shape, itemsize: int
) -> AllOutputs | None:
    """Return what keeps the outputs of an evaluation, if a metric needs all of them; collective.

    Args:
        metrics: of the run.
        comm: the ranks.
        examples: their number.
        output_shape: of the model, for one example.
        itemsize: of an output, in bytes.

    Raises:
        UserError: they do not fit in this machine's memory.
    """
    if not metrics.rankings:
        return None
    from dbp.cost.all_outputs import AllOutputs

    kept = AllOutputs(metrics.rankings, comm)
    kept.check_memory(examples * math.prod(output_shape), itemsize)
    return kept


def check_evaluated(
    metrics: MetricSet, comm: Communicator, loader: Loader, output_shape: Shape, shards: Shards, data: str
) -> None:
    """Raise UserError if a metric that needs all outputs can have no value on a data set; collective.

    Args:
        metrics: of the run, some of which need all outputs.
        comm: the ranks.
        loader: reads the data, of which this rank's shards are read.
        output_shape: of the model, for one example.
        shards: of this rank.
        data: the name of the data, for messages.

    Raises:
        PassStoppedError: a rank has been asked to stop; a short pass is finished all the same.
    """
    from dbp.cost.all_outputs import AllOutputs

    stops, cut, form = stop_check(comm), False, metrics.rankings[0].form

    def targets() -> Iterator[Predictions]:
        nonlocal cut
        for chunk in (chunk for number in shards.mine for chunk in loader.chunks(number)):
            if cut := cut or stops():
                return
            sample = targets_sample(form, output_shape, chunk.targets, chunk.inputs.dtype)
            yield Predictions(sample.outputs, sample.targets, chunk.example_weights)

    kept = AllOutputs(metrics.rankings, comm)
    presence = agree(comm, kept.presence, targets())
    if any(comm.gather(cut)):
        raise PassStoppedError
    kept.check_presence(presence, data)


def values_of(totals: ExampleSums, metrics: MetricSet, kept: AllOutputs | None, data: str) -> dict[str, float]:
    """Return cost and metrics of an evaluation by column, in the order of the settings; collective.

    Args:
        totals: the sums over the examples.
        metrics: of the run.
        kept: the outputs, if a metric needs all of them.
        data: the name of the data, for messages.
    """
    values = totals.values(metrics) | ({} if kept is None else kept.values(data))
    return {name: values[name] for name in ("cost", *metrics.columns)}

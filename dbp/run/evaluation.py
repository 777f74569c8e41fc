"""The cost and metrics of a run on its validation and test data, exact over all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from dbp.cost import not_finite_examples
from dbp.data import Dataset
from dbp.errors import PassStoppedError
from dbp.nn import RunningMoments
from dbp.reading.loader import Loader
from dbp.reading.shard import Chunks, CountedChunks, Shard
from dbp.run.fitted_metrics import all_outputs, check_evaluated, values_of
from dbp.run.run import Run
from dbp.run.sources import stop_check
from dbp.types import Array


class Evaluated(NamedTuple):
    """The result of an evaluation.

    Args:
        values: cost and metrics by name.
        counted: this rank's examples, without those of weight 0.
        tables: the arrays of metrics that have some, by name.
        shown: the values that are shown in a line: without those of single classes, where these are many.
    """

    values: dict[str, float]
    counted: int
    tables: Mapping[str, Array] = MappingProxyType({})
    shown: Mapping[str, float] = MappingProxyType({})


def evaluate(run: Run, data: Dataset | None) -> Evaluated:
    """Evaluate a run on a data set; without data there are no values; collective.

    Validation is of the weights of this moment, a test of the result, which may be the best epoch's.

    Raises:
        UserError: a metric needs other examples than the data has.
        PassStoppedError: a rank has been asked to stop; a short evaluation is finished all the same.
    """
    if data is None:
        return Evaluated({}, 0)
    purpose = "test" if data is run.sources.test else "validation"
    loader = run.loader(data, run.evaluated_rows, run.data_check.of_evaluation(purpose))
    until_stop, cut = _until_stop(run, loader)
    chunks, metrics = CountedChunks(until_stop), run.metrics
    kept = all_outputs(metrics, run.comm, len(data), run.output_shape, run.settings.numpy_dtype.itemsize)
    weights, moments = _weights_for(run, data)
    totals = run.objective.evaluate(weights, chunks, moments, metrics, None if kept is None else kept.add)
    if run.objective.stop_requested and any(run.comm.gather(bool(cut))):
        raise PassStoppedError
    run.data_check.after_evaluation(purpose)
    values = values_of(totals, metrics, kept, f"the {purpose} data")
    return Evaluated(values, chunks.count, metrics.tables(totals.metrics), metrics.without_details(values))


def check_metrics(run: Run) -> None:
    """Raise UserError if a metric can have no value on the validation or test data; collective.

    Raises:
        PassStoppedError: a rank has been asked to stop; a short pass is finished all the same.
    """
    for purpose, data in (("validation", run.sources.validation), ("test", run.sources.test)):
        if data is not None and run.metrics.rankings:
            loader = run.loader(data, run.evaluated_rows)
            check_evaluated(run.metrics, run.comm, loader, run.output_shape, run.shards, f"the {purpose} data")


def describe_not_finite(run: Run, data: Dataset) -> str:
    """Return in words which examples of a data set have a loss that is not finite; collective.

    Raises:
        PassStoppedError: a rank has been asked to stop; a short search is finished all the same.
    """
    (weights, moments), loader = _weights_for(run, data), run.loader(data, run.evaluated_rows)
    chunks, cut = _until_stop(run, loader)
    found = not_finite_examples.describe_not_finite(run.objective, weights, loader, moments, chunks)
    if any(run.comm.gather(bool(cut))):
        raise PassStoppedError
    return found


def _weights_for(run: Run, data: Dataset) -> tuple[Array, dict[str, RunningMoments]]:
    """Return the weights and running moments to evaluate on a data set of a run."""
    if data is run.sources.test:
        return run.result
    return run.state.inference_weights(run.weights), run.inference_moments


def _until_stop(run: Run, loader: Loader) -> tuple[Chunks, list[int]]:
    """Return the loader's chunks until this rank asks to stop, and a list of the shards that were cut for that."""
    stops = stop_check(run.comm)
    cut: list[int] = []

    def chunks(number: int) -> Iterator[Shard]:
        for chunk in loader.chunks(number):
            if cut or stops():
                cut.append(number)
                return
            yield chunk

    return chunks, cut

"""A trained model on the examples of a data set, over all ranks: its cost, metrics and derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.cost.not_finite_examples import describe_not_finite
from dbp.cost.objective import Objective
from dbp.cost.planned_passes import is_fixed
from dbp.data import Dataset, Meaning, Numbers, RowCheck, aligned, is_checked_at_start, parse_meaning
from dbp.errors import DataError, NotFiniteError, UserError
from dbp.metrics.metric_set import MetricKind
from dbp.nn import as_loss, as_model
from dbp.parallel import Communicator, Layout, Shards, agree, from_rank_0, reuse_freed_memory
from dbp.reading.loader import Loader
from dbp.reading.shard import Chunks, CountedChunks, Shard
from dbp.run.evaluation import Evaluated
from dbp.run.fitted_metrics import Metrics, all_outputs, fitted_metrics, values_of, with_others
from dbp.run.snapshot import stored_input_shape
from dbp.run.sources import check_together, open_on_all_ranks, print_warnings
from dbp.run.standardization import standardized_like
from dbp.trained.model_on_data import ModelOnData
from dbp.trained.unknown_loss import check_is_known
from dbp.types import Array, Shapes

if TYPE_CHECKING:
    from dbp.checkpoint import StoredCheckpoint


class DataFile(NamedTuple):
    """A data file on which a checkpoint is used.

    Args:
        path: a file, a group in one, a pattern of names of files, a list of these, or a table of them.
        scale: factor on its inputs that the user states for it; None for that of the run's config, or its own.
        names: names of its columns by setting, such as "inputs", where they are others than in the run's config.
    """

    path: Any
    scale: Numbers | None = None
    names: Mapping[str, str | tuple[str, ...]] = MappingProxyType({})


class Evaluator:
    """A trained model and a data set whose examples are spread over the ranks; collective.

    Args:
        trained: the model and its data set.
        comm: the ranks.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.
        metrics: as settings have them; None for those that the loss reports by default.
        checks_first: whether all rows are checked before they are used, where that takes little time; else each chunk
            of them is when it is read, which is faster in one pass, as it is in the cache then.

    Raises:
        UserError: targets or weights of the data do not fit the model's outputs, or its loss is not known.
    """

    def __init__(
        self,
        trained: ModelOnData,
        comm: Communicator,
        shards: int | None = None,
        metrics: Metrics = None,
        checks_first: bool = True,
    ):
        agree(comm, check_is_known, trained.loss)
        print_warnings(comm, trained.data)
        check: RowCheck | None = None
        if checks_first and is_checked_at_start(trained.data):
            check_together(comm, trained.data, trained.dtype, trained.example_check)
        else:
            check = RowCheck(trained.data, trained.dtype, trained.example_check)
        self.trained, self.comm, self.metrics = trained, comm, metrics
        self.shards = Shards(shards or comm.size, comm.rank, comm.size)
        rows = trained.rows_at_a_time
        known = trained.data, trained.form, trained.dtype, self.shards, rows, trained.standardized
        copy = trained.copies_inputs or not is_fixed((trained.loss, metrics))  # see ModelOnData
        self.loader = Loader(*known, check, copy)

    def objective(self) -> Objective:
        """Return the cost over all ranks, as a function of the flat weights."""
        trained = self.trained
        layout = Layout.of(trained.parameters)
        return Objective(
            trained.model,
            trained.loss,
            layout,
            self.comm,
            self.shards,
            trained.dtype,
            trained.running,
            target_scaling=trained.target_scaling,
        )

    def evaluate(self, *others: MetricKind) -> Evaluated:
        """Return cost and metrics over all examples, and how many count over all ranks; collective.

        Args:
            others: metrics besides those of the evaluator.

        Raises:
            DataError: an example breaks a rule, or none counts.
            NotFiniteError: the cost is not finite.
            UserError: a metric does not fit the loss, or needs other examples than the data has.
        """
        reuse_freed_memory()
        trained, objective = self.trained, self.objective()
        chosen = with_others(self.metrics, others, trained.loss)
        shape, meaning = trained.form.shape, trained.standardized
        metrics = fitted_metrics(self.comm, chosen, trained.loss, shape, meaning, self.loader)
        kept = all_outputs(metrics, self.comm, len(trained.data), shape, trained.dtype.itemsize)
        failures: list[UserError] = []
        chunks = CountedChunks(_until_failure(self.loader.chunks, failures))
        totals = objective.evaluate(trained.parameters, chunks, metrics=metrics, use=None if kept is None else kept.add)
        counted = sum(self.comm.gather(chunks.count))
        agree(self.comm, _check_counted, failures, counted, trained.data.name)
        self.check_cost(totals.cost)
        values = values_of(totals, metrics, kept, trained.data.name)
        return Evaluated(values, counted, metrics.tables(totals.metrics), metrics.without_details(values))

    def check_cost(self, cost: float) -> None:
        """Raise NotFiniteError, which names the first example at fault, if a cost over all examples is not finite.

        Collective if the cost is not finite.
        """
        if not math.isfinite(cost):
            objective = self.objective()
            weights = objective.layout.flatten(self.trained.parameters, self.trained.dtype)
            found = describe_not_finite(objective, weights, self.loader)
            raise NotFiniteError(
                f"the cost is {cost}: {found}; remove such examples, or correct their numbers or scale"
            )


def _until_failure(chunks: Chunks, failures: list[UserError]) -> Chunks:
    """Return chunks that end, and note why, at the first row that breaks a rule: all ranks learn of it later."""

    def checked(number: int) -> Iterator[Shard]:
        try:
            if not failures:
                yield from chunks(number)
        except UserError as error:
            failures.append(error)

    return checked


def _check_counted(failures: Sequence[UserError], counted: int, data: str) -> None:
    """Raise the error of a row that breaks a rule, or DataError if no example counts."""
    if failures:
        raise failures[0]
    if not counted:
        raise DataError(f"{data}: the weights of all examples are 0, so that none of them counts")


def evaluator_of(
    model: Any,
    loss: Any,
    weights: Mapping[str, Array],
    data: Any,
    comm: Communicator,
    shards: int | None = None,
    dtype: np.dtype[Any] | None = None,
    standardized: Meaning | None = None,
    metrics: Metrics = None,
    trained_shape: Shapes | None = None,
    checks_first: bool = True,
) -> Evaluator:
    """Return the evaluator of a model on data, which is checked; collective.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name; of several targets, one for each by name.
        weights: the parameters, and the running moments if the model has any, by name.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        comm: the ranks.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.
        dtype: type to compute in; by default that of the weights.
        standardized: the meaning of the data that it was trained on, with mean and deviation of columns; by default of
            the run that a Data standardizes like.
        metrics: as settings have them; None for those that the loss reports by default.
        trained_shape: of an example's inputs in the data that it was trained on, for messages; None if not known.
        checks_first: see Evaluator.

    Raises:
        UserError: weights, model and data do not fit together.
    """
    dtype = dtype or np.result_type(*weights.values())
    model, loss = as_model(model), as_loss(loss)
    data = agree(comm, _as_data, data)
    if standardized is None:
        standardized = from_rank_0(comm, _standardized, data)
    opened = open_on_all_ranks(comm, data, data.train)
    assert opened is not None
    trained = agree(comm, ModelOnData, model, loss, weights, opened, dtype, standardized, trained_shape)
    return Evaluator(trained, comm, shards, metrics, checks_first)


def evaluator_of_checkpoint(
    settings: Settings,
    checkpoint: StoredCheckpoint,
    file: DataFile,
    comm: Communicator,
    dtype: np.dtype[Any] | None = None,
    checks_first: bool = True,
) -> Evaluator:
    """Return the evaluator of a checkpoint's model on the data in a file; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint, which also says how many shards sums have.
        file: the data.
        comm: the ranks.
        dtype: type to compute in; by default that of the run.
        checks_first: see Evaluator.

    Raises:
        UserError: checkpoint and data do not fit together.
    """
    meaning, shards = parse_meaning(checkpoint.meaning), int(checkpoint.progress["shards"])
    data = aligned_file(settings.data, meaning, file, comm)
    return evaluator_of(
        settings.model,
        settings.loss,
        checkpoint.model,
        data,
        comm,
        shards,
        dtype or settings.numpy_dtype,
        meaning,
        settings.metrics,
        stored_input_shape(checkpoint.progress),
        checks_first,
    )


def aligned_file(
    data: Data,
    meaning: Meaning,
    file: DataFile,
    comm: Communicator,
    with_targets: bool = True,
    option: str = "--scale ",
) -> Dataset:
    """Return the data set in a file, in the order of the data that a model was trained on; collective.

    Args:
        data: the settings of the run that trained the model.
        meaning: of its training data.
        file: the data.
        comm: the ranks.
        with_targets: whether its targets are read.
        option: how the user states the scale of the data, in messages.

    Raises:
        UserError: its numbers do not mean the same.
    """
    own_scale, remedy = data.scale is data.shift is None, None if file.scale is not None else how_to_pass_scale(option)
    stated: dict[str, Any] = {**file.names, **({} if file.scale is None else {"scale": file.scale, "shift": None})}
    found = open_on_all_ranks(comm, replace(data, **stated), file.path, with_targets)
    assert found is not None
    return agree(comm, aligned, found, meaning, remedy, own_scale)


def how_to_pass_scale(option: str) -> Callable[[float, float], str]:
    """Return a function that says how to pass the scale of data, from that of the training data and that of the data.

    Args:
        option: what stands before the scale.
    """

    def words(of_training: float, of_data: float) -> str:
        own = f", or {option}{of_data!r} if that is the factor that they need"
        if of_training == of_data:
            own = "" if of_training == 1 else f", or {option}1 if they are multiplied already"
        return f"pass {option}{of_training!r} if they are in the same units{own}"

    return words


def _as_data(data: Any) -> Data:
    return data if isinstance(data, Data) else Data(data)


def _standardized(data: Data) -> Meaning:
    if data.standardize is None:
        return {}
    if data.standardize_from is None:
        raise UserError(
            "data.standardize must be { from = RUN } where a trained model is used, which was trained with the moments "
            f"of other data, but is {data.standardize!r}"
        )
    return standardized_like(data.standardize_from)

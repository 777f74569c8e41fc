"""A run on this rank: its data, model, weights, optimizer state and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from dbp.config.flat_table import flatten
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.cost.evaluation import example_bytes, rows_at_a_time
from dbp.cost.objective import Objective
from dbp.data import Dataset, Examples, Meaning, RowCheck, example_masks, role_of
from dbp.data.check import block_rows
from dbp.data.dataset import example_form
from dbp.errors import PassStoppedError, unknown
from dbp.named_arrays import zeros_of
from dbp.nn import (
    InitialParameters,
    RunningMoments,
    initial_parameters,
    running_arrays,
    training_trial,
    update_running_moments,
)
from dbp.optim import AVERAGE, State
from dbp.parallel import (
    Arena,
    Communicator,
    Layout,
    RankLostError,
    Shards,
    agree,
    check_equal_on_ranks,
    check_memory,
    is_on_all_ranks,
)
from dbp.reading.example_check import ExampleCheck
from dbp.reading.loader import Loader
from dbp.reading.order import Batches, RowOrder
from dbp.reading.output_form import output_form
from dbp.reading.shard import Batch, Shard
from dbp.reading.training_data import TrainingData
from dbp.run.best_weights import BestWeights
from dbp.run.class_weights import with_class_weights
from dbp.run.data_check import DataCheck
from dbp.run.fitted_metrics import fitted_metrics
from dbp.run.memory_needed import memory_needed
from dbp.run.model_check import check_standardized, model_warnings
from dbp.run.progress import Progress, comparable_columns, epochs_since_best
from dbp.run.provenance import check_installation
from dbp.run.row_tables import tables_of
from dbp.run.sampling import sampler_of
from dbp.run.sources import open_sources, shared_files, stop_check
from dbp.run.standardization import standardization_of, standardizations
from dbp.types import Array, Shapes

if TYPE_CHECKING:
    from dbp.run.frozen import FrozenParameters  # each for runs that have these settings alone
    from dbp.run.given_weights import GivenWeights

WEIGHTS = "weights"  # the name of the vector that no optimizer has


class Run:
    """Everything that a rank holds of a run; its constructor is collective.

    Args:
        settings: what to train, and how.
        comm: the ranks.
        kernels: what the ranks compute with, on which the bits of results depend.
        restored: whether a snapshot will be put into it before its first step, so that it needs no initial weights.
        stored: the meaning of the training data in the checkpoint that it resumes from; empty without one.
        progress: the counts and sums of that checkpoint, by name; empty without one, or if its loss had other settings.
    """

    def __init__(
        self,
        settings: Settings,
        comm: Communicator,
        kernels: Mapping[str, str],
        restored: bool = False,
        stored: Meaning | None = None,
        progress: Mapping[str, Any] = MappingProxyType({}),
    ):
        self.settings, self.comm, self.kernels, self.restored = settings, comm, kernels, restored
        check_installation(comm)
        check_equal_on_ranks(comm, flatten(table_from(settings)), "give all ranks the same settings")
        self.sources = open_sources(settings, comm)
        check_equal_on_ranks(comm, agree(comm, self.sources.shapes), "give all ranks the same data, whole")
        assert settings.shards is not None
        self.shards = Shards(settings.shards, comm.rank, comm.size)
        self.batches = Batches(len(self.sources.train), settings.examples_per_step(len(self.sources.train)))
        self.sampler = sampler_of(comm, settings, self.sources.train, self.batches.batch_size)
        self.data_check = agree(comm, self._make_data_check)
        self.reading = self._read_ahead()
        self.sources.compare(comm)
        self.notes: Sequence[str] = ()  # for the user
        initial = agree(comm, self._build_model)
        check_equal_on_ranks(comm, self._shapes, "the model must not depend on the rank")
        self._given = self._accept_weights(initial)
        averaged = self.running if AVERAGE in settings.optimizer.vectors else {}
        self.averaged = {path: moments.copy() for path, moments in averaged.items()}  # as the weights are
        files = self.sources.files.items()
        self.digests = {purpose: self.data_check.at_start(comm, purpose, data) for purpose, data in files}
        self.standardization = standardization_of(comm, settings, self.sources, stored or {})
        self.warnings += self.standardization.warnings
        self._train_loader = self.loader(self.sources.train)
        loss = self.form.loss
        self.loss = with_class_weights(comm, self.form, self.meaning, progress, self._class_totals)
        self.metrics = fitted_metrics(comm, settings.metrics, loss, self.form.shape, self.meaning, self._train_loader)
        self.progress = Progress(self.metrics, agree(comm, self._column, settings.early_stopping.metric))
        self.schedule_by = agree(comm, self._column, settings.schedule.by)
        self._allocate()
        if not restored:
            self._begin(initial)

    def _make_data_check(self) -> DataCheck:
        def check_examples(purpose: str, examples: Examples, first: int) -> None:
            self._example_checks[purpose](examples, first)  # which are known once the model is built

        return DataCheck(self.sources, self.settings.numpy_dtype, check_examples, self.batches.steps)

    def _read_ahead(self) -> TrainingData:
        """Return the training data as mini-batches read it; collective. All that reads it shares its memory."""
        settings, train = self.settings, self.sources.train
        reading = TrainingData.of(self.comm, train, self.order, settings.epochs, settings.data.memory_bytes)
        self.sources = self.sources.read_from(reading.whole)
        return reading

    def _build_model(self) -> InitialParameters:
        settings, dtype = self.settings, self.settings.numpy_dtype
        shapes = self.sources.train.input_shape
        example = zeros_of(shapes, 2, dtype)
        self._example_masks = example_masks(self.sources.train)
        one, two = map(self._example_masks, (1, 2))
        initial = initial_parameters(settings.model, example, settings.seed, dtype, two)
        columns = example_form(self.sources.train)
        self.form, self.running = output_form(settings.loss, initial, columns), initial.running
        self._are_weighted = any(role_of(column) in ("weights", "mask") for column in columns)
        self._frozen_shapes: dict[str, tuple[int, ...]] = {}
        trained: Mapping[str, tuple[int, ...]] = initial.shapes
        if settings.frozen or initial.constants:
            from dbp.run.frozen import freeze_moments, split_shapes

            trained, self._frozen_shapes = split_shapes(settings.frozen, initial)
            freeze_moments(self.running, initial.shapes, self._frozen_shapes)
        tables = tables_of(settings, trained, initial.row_uses, self.batches.batch_size)
        self.layout = Layout.with_tables(trained, *tables)
        settings.optimizer.check(self.layout.shapes, self.layout.sparse)
        check_standardized(settings, initial)
        self._example_checks = {
            purpose: ExampleCheck.of(settings.model, self.form, initial, data)
            for purpose, data in self.sources.files.items()
        }
        trial = training_trial(settings.model, initial, zeros_of(shapes, 1, dtype), one, self._frozen_shapes)
        self.warnings = model_warnings(self.form.loss, trial, self.shards.count, self.batches)
        self.warnings += self.reading.warnings
        if self.comm.rank == 0:  # which prints them
            self.warnings += shared_files(settings.data)
        return initial

    def _accept_weights(self, initial: InitialParameters) -> GivenWeights | None:
        """Have rank 0 check the initial weights from the settings; collective. A file is read only if it is needed."""
        if self.settings.weights is None:
            return None
        from dbp.run.given_weights import GivenWeights, is_in_file

        if self.restored and is_in_file(self.settings):
            return None
        given = GivenWeights(self.comm, self.settings, initial, self.running, self.sources.meaning)
        self.warnings, self.notes = self.warnings + given.warnings, given.notes
        return given

    def _begin(self, initial: InitialParameters) -> None:
        """Write the initial weights, each parameter by one rank for all that share it; collective."""
        stops, frozen = stop_check(self.comm), self.frozen
        draw: Callable[[str, Array], object] = lambda path, out: None if stops() else initial.draw(path, out)  # noqa: E731
        for arena, vector in [(self.arena, self.weights)] + ([] if frozen is None else [(frozen.arena, frozen.vector)]):
            if self._given is None:
                arena.fill(vector, draw)
            else:
                self._given.write(arena, vector, draw)
        if any(self.comm.gather(stops())):
            raise PassStoppedError
        self._given = None  # which may hold large arrays
        if (trained := self.state.inference_weights(self.weights)) is not self.weights:
            for part in self.arena.owned:
                trained[part] = self.weights[part]

    def _column(self, name: str) -> str:
        """Return the column of the history by which epochs are compared; by default the cost."""
        valid = comparable_columns(self.metrics, self.sources.validation is not None)
        if name and name not in valid:
            raise unknown("metric", name, valid)
        return name or ("validation_cost" if "validation_cost" in valid else "cost")

    @property
    def has_masks(self) -> bool:
        """Return True if positions of the training inputs may hold no data, or their rows have unequal lengths."""
        return self._example_masks(1) is not None

    @property
    def _shapes(self) -> dict[str, object]:
        shapes: dict[str, object] = {f"parameter {name}": shape for name, shape in self.layout.shapes.items()}
        shapes |= {f"frozen parameter {name}": shape for name, shape in self._frozen_shapes.items()}
        return shapes | {f"running moments {name}": moments.width for name, moments in self.running.items()}

    def _allocate(self) -> None:
        """Allocate weights, optimizer vectors and gradients, shared by the ranks of a node if possible; collective."""
        settings, dtype, method = self.settings, self.settings.numpy_dtype, self.settings.optimizer
        frozen, best = Layout(self._frozen_shapes), settings.early_stopping.keeps_best
        needed = memory_needed(settings, self.comm, self.layout, frozen, self.shards, self.running)
        check_memory(self.comm, **needed._asdict())
        vectors = 1 + len(method.vectors) + len(method.scratch) + best
        self.arena = Arena(self.comm, self.layout, dtype, vectors, divide=settings.divide_state)
        self.weights = self.arena.vector()
        self.state = State.of(method, self.arena.vectors)
        self.best = BestWeights(self.arena, self.inference_moments) if best else None
        self.frozen: FrozenParameters | None = None
        if self._frozen_shapes:
            from dbp.run.frozen import FrozenParameters

            self.frozen = FrozenParameters(self.comm, self._frozen_shapes, dtype)
        self.objective = Objective(
            settings.model,
            self.loss,
            self.layout,
            self.comm,
            self.shards,
            dtype,
            self.running,
            settings.seed,
            self.arena,
            settings.messages,
            settings.messages_kept,
            steps_per_epoch=self.batches.steps,
            target_scaling=standardizations(self.form, self.meaning),
            metrics=self.metrics.training,
            frozen=None if self.frozen is None else self.frozen.parameters,
            are_weighted=self._are_weighted,
        )
        self._full_batch: Batch | None = None
        self._order: tuple[int, RowOrder] | None = None  # of the current epoch, with its number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Free shared memory, which takes all ranks: not if this rank leaves alone, as that ends the job."""
        self.reading.close()
        self.state.close()
        if isinstance(error, RankLostError):
            error.left.append(self._free)
        elif is_on_all_ranks(error):
            self._free()

    def _free(self) -> None:
        self.objective.free()
        if self.frozen is not None:
            self.frozen.arena.free()

    @property
    def meaning(self) -> Meaning:
        """Return what the numbers of the training data mean, with what they are standardized by."""
        return self.standardization.meaning

    def _class_totals(self, count: Callable[[Shard], Array]) -> Array:
        """Return sums over the training data, given those over some examples; collective."""
        from dbp.reading.class_counts import class_totals  # which no other start needs

        train = self.sources.train
        loader = self.loader(train, agree(self.comm, block_rows, train))
        return class_totals(self.comm, loader, self.shards, count, stop_check(self.comm))

    @property
    def output_shape(self) -> Shapes:
        """Return the shape of the model's outputs for one example, the longest if they have unequal lengths."""
        return self.form.shape

    def loader(self, data: Dataset, chunk_rows: int = 1, check: RowCheck | None = None) -> Loader:
        """Return a loader of this rank's shards of a data set; see its class."""
        dtype = self.settings.numpy_dtype
        return Loader(data, self.form, dtype, self.shards, chunk_rows, self.meaning, check)

    def order(self, epoch: int) -> RowOrder:
        """Return the order of examples in an epoch; with a full batch it is always the same."""
        return self.sampler.order(0 if self.batches.steps == 1 else epoch)

    def next_batch(self) -> Batch:
        """Return this rank's shards of the next mini-batch; a full batch is read only once."""
        if self._full_batch is not None:
            return self._full_batch
        epoch, positions = self.progress.epoch, self.batches.positions(self.progress.step_in_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self.order(epoch)
        with self.reading.batch(self._order[1], epoch, positions):
            check = self.data_check.of_step(self.progress.step)
            batch = self._train_loader.batch(self._order[1], positions, check)
        if self.objective.full_batch:
            self._full_batch = batch
        return batch

    @property
    def at_end_of_epoch(self) -> bool:
        """Return True if all mini-batches of the epoch are done."""
        return self.progress.step_in_epoch >= self.batches.steps

    @property
    def schedule_steps(self) -> int:
        """Return the number of steps up to the end of the schedule."""
        epochs = self.settings.epochs
        return (self.settings.schedule.horizon(epochs) or epochs) * self.batches.steps

    @property
    def epochs_since_best(self) -> int:
        """Return the number of epochs since the best one, as early stopping counts them."""
        column, least = self.progress.best_by, self.settings.early_stopping.least_change
        larger = self.metrics.larger_is_better(column)
        return epochs_since_best(column, self.progress.history.get(column, []), least, larger)

    @property
    def is_stale(self) -> bool:
        """Return True if as many epochs as early stopping allows have passed since the best one."""
        return 0 < self.settings.early_stopping.patience <= self.epochs_since_best

    # --- checkpoints --------------------------------------------------------------------------------

    @property
    def rollback_targets(self) -> set[int]:
        """Return the steps of the checkpoints that are kept because the run may have to roll back to them."""
        return self.progress.not_finite.rollback_targets() if self.settings.not_finite.rolls_back else set()

    @property
    def vectors(self) -> dict[str, Array]:
        """Return the weights and the optimizer's vectors by name: all that a run keeps for each parameter."""
        return {WEIGHTS: self.weights, **self.state.vectors}

    @property
    def inference_moments(self) -> dict[str, RunningMoments]:
        """Return the running moments to evaluate and predict with: their averages, if the weights have one."""
        return self.averaged or self.running

    def update_moments(self, sums: Array) -> None:
        """Update the running moments after a step that is not yet counted, and their averages.

        Args:
            sums: of all shards, as an Evaluation has them.
        """
        update_running_moments(self.running, sums)
        share = self.settings.optimizer.average_share(self.progress.updates + 1)
        for path, moments in self.averaged.items():
            moments.average_in(self.running[path], share)

    # --- what the run has come to -------------------------------------------------------------------

    @property
    def has_best(self) -> bool:
        """Return True if the weights of the best epoch are kept, and there is one."""
        return self.best is not None and self.progress.best_epoch > 0

    def take_best(self) -> None:
        """Keep the weights of this moment as those of the best epoch, if the run keeps them; collective."""
        if self.best is not None:
            self.best.take(self.state.inference_weights(self.weights), self.inference_moments)

    @property
    def result(self) -> tuple[Array, dict[str, RunningMoments]]:
        """Return the weights and running moments that the run has come to: of the best epoch, else the last ones."""
        if self.best is not None and self.has_best:
            return self.best.vector, self.best.moments
        return self.state.inference_weights(self.weights), self.inference_moments

    def final_weights(self) -> dict[str, Array]:
        """Return weights and running moments of the result by name, arrays of the caller's own; collective."""
        vector, moments = self.result
        self.arena.fence(vector)
        frozen = {name: array.copy() for name, array in self.objective.frozen.items()}
        return {**frozen, **self.layout.views(vector.copy(), writable=True), **running_arrays(moments)}

    @cached_property
    def evaluated_rows(self) -> int:
        """Return how many examples are evaluated at a time."""
        parameters = self.objective.with_frozen(self.layout.views(self.weights))
        given = self.sources.train.input_shape, self.settings.numpy_dtype, self._example_masks
        return rows_at_a_time(example_bytes(self.settings.model, parameters, self.running, *given))

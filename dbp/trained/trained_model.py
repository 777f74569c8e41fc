"""A trained model in the hand, as dbp.fit and dbp.load return it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.blas import blas_threads
from dbp.checkpoint import StoredCheckpoint
from dbp.config.settings import FULL_BATCH, Settings
from dbp.data import Meaning, Numbers
from dbp.errors import UserError
from dbp.log import now
from dbp.metrics.metric_set import VALIDATION
from dbp.named_arrays import as_dict, each
from dbp.nn import Graph, JointLoss, Sequential
from dbp.parallel import Communicator, abort_on_error, agree, from_rank_0, ranks_of_job
from dbp.run.snapshot import stored_input_shape
from dbp.text import COUNTS, count_text, figures, shortened
from dbp.trained.unknown_loss import UnknownLoss
from dbp.types import Array, Shapes

if TYPE_CHECKING:
    from dbp.summary import Summary
    from dbp.trained.model_on_data import ModelOnData

OUTPUTS, PROBABILITIES, CLASSES = "outputs", "probabilities", "classes"  # what a model predicts, as files name it
SHOWN_LAYERS, SHOWN_FIGURES = 8, 4  # of a model, in a line


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A model with its trained weights, which predicts and is evaluated on data as it is stored.

    Scaling and standardization are the model's: it takes numbers as the training data has them, and returns outputs in
    the units of the targets. A method that is given data computes some rows at a time. If several ranks run the
    program, all of them call it with the same arguments, share the work, and get the whole result, which has the same
    bits on any number of ranks.

    Args:
        settings: of the run that trained it.
        weights: weights and running moments by name; averaged weights if the optimizer keeps an average.
        history: a list for each column, with a number for each epoch.
        test: cost and metrics on the test data, if the run had any and has just ended.
        meaning: of the training data by column, with mean and deviation by which the run has standardized it.
        progress: counts of the run by name, such as epoch, step, seed and shards.
        provenance: what the run was made with.
        config: the settings in TOML as a checkpoint has them; "" until they are needed.
        path: the checkpoint that it was loaded from, or the folder of the run; None if it is in memory alone.
    """

    settings: Settings
    weights: dict[str, Array]
    history: dict[str, list[float]]
    test: dict[str, float]
    meaning: Meaning
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    path: Path | None = None

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Return the number of epochs after which the weights were these: the best epoch, if the run keeps it."""
        return int(self.progress["epoch"])

    @property
    def steps(self) -> int:
        """Return the number of steps after which the weights were these."""
        return int(self.progress["step"])

    @property
    def classes(self) -> Any:
        """Return the name of each class, in the order of their numbers; None if the training data named none.

        Of several targets, they are by the name of the target, of those that have classes.
        """
        known = {name.removeprefix("targets."): what.classes for name, what in self.meaning.items() if what.classes}
        return known.get("targets", known or None)

    @property
    def input_shape(self) -> Shapes | None:
        """Return the shape of an example's inputs; None if examples have masked positions, or it is not known."""
        return stored_input_shape(self.progress)

    def __repr__(self) -> str:
        numbers = sum(array.size for array in self.weights.values())
        done = f"{count_text(self.epoch, 'epoch')}, {count_text(self.steps, 'step')}"
        lines = [f"{_layers(self.settings.model)}: {numbers:,} weights in {self.settings.dtype}, after {done}"]
        if self.classes:
            several = as_dict(self.classes)
            texts = (f"{name}: {shortened(names)}" if name else shortened(names) for name, names in several.items())
            lines.append(f"classes: {'; '.join(texts)}")
        if figures_now := self._figures():
            lines.append(figures_now)
        if self.path is not None:
            lines.append(f"from {self.path}")
        return "<dbp.TrainedModel\n  " + "\n  ".join(lines) + ">"

    def _figures(self) -> str:
        """Return cost and metrics on the test data, else those of its epoch on validation or training data."""
        if self.test:
            return f"test: {figures(dict(list(self.test.items())[:SHOWN_FIGURES]))}"
        epochs = self.history.get("epoch", [])
        if self.epoch not in epochs:
            return ""
        row = {name: column[epochs.index(self.epoch)] for name, column in self.history.items()}
        validation = {name.removeprefix(VALIDATION): row[name] for name in row if name.startswith(VALIDATION)}
        training = {name: value for name, value in row.items() if name not in COUNTS}
        shown = list((validation or training).items())[:SHOWN_FIGURES]
        return f"{'validation' if validation else 'training'}: {figures(dict(shown))}"

    def summary(self, input_shape: Shapes | None = None) -> Summary:
        """Return the layers with their shapes, parameters, work and memory; print() shows it as a table.

        Args:
            input_shape: shape of an example's inputs, without the axis of examples, or shapes by name; by default that
                of the training.

        Raises:
            UserError: the shape is needed, or the model does not take it.
        """
        from dbp.summary import summary

        shape = self._shape(input_shape)
        settings = self.settings
        examples = int(self.progress.get("examples", 1))
        size = settings.examples_per_step(examples) if settings.batch_size == FULL_BATCH else settings.batch_size
        loss = None if isinstance(settings.loss, UnknownLoss) else settings.loss
        of_step = settings.optimizer, int(size), settings.shards, settings.dtype, settings.frozen
        return summary(settings.model, shape, loss, *of_step)

    def _shape(self, given: Shapes | None) -> Shapes:
        shape = self.input_shape if given is None else each(tuple, given)
        if shape is None:
            raise UserError(
                "the shape of an example is not stored with this model, as of sequences of unequal length; "
                "pass it: --input 28,28,1, or from Python input_shape=(28, 28, 1)"
            )
        return shape

    # --- what it does -------------------------------------------------------------------------------------

    def predict(self, inputs: Any, *, scale: Numbers | None = None, not_finite: str = "refuse") -> Any:
        """Return the model's outputs (examples, ...) in the units of the targets; collective.

        They have the bits of the outputs that `dbp predict` writes. Positions that are masked are NaN. Where targets
        have names, the outputs are a dictionary by name.

        Args:
            inputs: an array (examples, ...) as the training data stores its inputs, a dbp.data.Ragged, or a dictionary
                {"inputs": ..., "mask": ...} of arrays; of several inputs, a dictionary of them by name; a file, a list
                of files or a table of them; a data set.
            scale: factor on the inputs, if it is another than that of the training data.
            not_finite: "refuse" inputs or outputs that are infinite or NaN, or "mark" such rows with NaN.

        Raises:
            UserError: the data does not fit the model, or its numbers do not mean the same.
            DataError: inputs are refused as they are not finite.
            NotFiniteError: likewise outputs for finite inputs.
        """
        return self._predict(OUTPUTS, inputs, scale, not_finite)

    def predict_proba(
        self, inputs: Any, *, output: str | None = None, scale: Numbers | None = None, not_finite: str = "refuse"
    ) -> Any:
        """Return the probability of each class (examples, ..., classes); collective.

        Of two classes that share one output, as with binary_cross_entropy, it is that of the second.

        Args:
            inputs: those of predict().
            output: where targets have names, the one whose probabilities are returned; by default a dictionary with
                those of all that have some.
            scale: that of predict().
            not_finite: that of predict().

        Raises:
            UserError: as in predict(), or the loss knows no probabilities.
        """
        return self._predict(PROBABILITIES, inputs, scale, not_finite, output)

    def predict_classes(
        self,
        inputs: Any,
        *,
        labels: bool = False,
        output: str | None = None,
        scale: Numbers | None = None,
        not_finite: str = "refuse",
    ) -> Any:
        """Return the number of the most probable class of each example, or position of it; -1 for none; collective.

        Args:
            inputs: those of predict().
            labels: return the names of the classes in place of their numbers; "" for none.
            output: where targets have names, the one whose classes are returned; by default a dictionary with those of
                all that have some.
            scale: that of predict().
            not_finite: that of predict(); marked rows have no class.

        Raises:
            UserError: as in predict(), or the loss knows no classes, or they have no names.
        """
        if labels and self.classes is None:
            raise UserError("labels need names of classes, which the training data did not have; leave labels out")
        found = self._predict(CLASSES, inputs, scale, not_finite, output)
        if not labels:
            return found
        from dbp.trained.prediction import texts_of

        return texts_of(found, self.classes, output)

    def evaluate(self, data: Any, *, scale: Numbers | None = None) -> dict[str, float]:
        """Return cost and metrics over all examples of a data set by name, as `dbp eval` prints them; collective.

        Args:
            data: a tuple (inputs, targets) or (inputs, targets, weights) of arrays as the training data stores them,
                or a dictionary of these; a file, a list of files or a table of them; a data set.
            scale: factor on the inputs, if it is another than that of the training data.

        Raises:
            UserError: the data does not fit the model, or its numbers do not mean the same.
            NotFiniteError: the cost is not finite.
        """
        from dbp.trained.evaluator import Evaluator

        with self._on_ranks() as comm:
            trained = self._on(data, comm, scale, with_targets=True)
            shards = int(self.progress["shards"])
            return Evaluator(trained, comm, shards, self.settings.metrics, checks_first=False).evaluate().values

    def _predict(
        self, column: str, inputs: Any, scale: Numbers | None, not_finite: str, output: str | None = None
    ) -> Any:
        """Return a column of what is predicted, of one output or of all by name; see prediction.column_of()."""
        from dbp.run.sources import print_warnings
        from dbp.trained.prediction import check_column, column_of, predictions

        result: dict[str, Array] = {}
        with self._on_ranks() as comm:
            trained = self._on(inputs, comm, scale, with_targets=False)
            agree(comm, check_column, trained, column, output)
            print_warnings(comm, trained.data)
            for found in predictions(trained, comm, not_finite):
                for name, rows in column_of(found, trained.loss, column, output).items():
                    if found.first == 0:
                        result[name] = np.empty((len(trained.data), *rows.shape[1:]), rows.dtype)
                    result[name][found.first : found.first + len(rows)] = rows
        has_names = isinstance(trained.loss, JointLoss) and output is None
        return result if has_names else next(iter(result.values()))

    def _on(self, given: Any, comm: Communicator, scale: Numbers | None, with_targets: bool) -> ModelOnData:
        """Return this model on what the user gives; collective."""
        from dbp.trained.kept_model import model_on

        return model_on(self, given, comm, scale, with_targets)

    @contextmanager
    def _on_ranks(self) -> Iterator[Communicator]:
        """Yield the ranks of this job, with the threads that the bits depend on."""
        comm, threads = ranks_of_job(), blas_threads(self.settings.thread_count)
        with abort_on_error(comm), threads, np.errstate(over="ignore", invalid="ignore"):
            yield comm

    # --- what is written ----------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write a checkpoint that dbp.load, `dbp predict`, `dbp eval` and `dbp export` take, and new runs as weights.

        It holds no state of the optimizer, so that no run resumes from it; collective.

        Args:
            path: of the file, such as "model.h5".
            overwrite: replace a file of that name.

        Raises:
            UserError: there is such a file, or the settings cannot be stored.
            StorageError: it cannot be written.
        """
        from_rank_0(ranks_of_job(), self._save, Path(path), overwrite)

    def _save(self, path: Path, overwrite: bool) -> None:
        from dbp.checkpoint import write
        from dbp.files import must_be_free, remove_left

        must_be_free(path, overwrite, self._files, "overwrite=True")
        remove_left(path)
        write(path, self._checkpoint(), overwrite)

    def export(
        self,
        path: str | PathLike[str],
        *,
        overwrite: bool = False,
        input_shape: Shapes | None = None,
        scale: float | None = None,
        to: str = "dbp",
        rename: Mapping[str, str] | None = None,
    ) -> None:
        """Write the model in ONNX, or its weights for other programs, as the ending of the name says; collective.

        Args:
            path: of a file that ends in .onnx, .safetensors or .npz, or for PyTorch in .pt.
            overwrite: replace a file of that name.
            input_shape: for ONNX and PyTorch, the shape of an example; by default that of the training data.
            scale: for ONNX, the factor on the inputs; by default that of the training data.
            to: "pytorch" for weights with the names and axes of a state_dict.
            rename: for PyTorch, new names by the names of layers, such as {"dense_1": "0"}.

        Raises:
            UserError: there is such a file, or its format cannot express the model.
            StorageError: it cannot be written.
        """
        options = scale, to, [f"{old}={new}" for old, new in (rename or {}).items()], self.settings.model
        from_rank_0(ranks_of_job(), self._export, Path(path), overwrite, input_shape, *options)

    def _export(self, path: Path, overwrite: bool, shape: Shapes | None, *options: Any) -> None:
        from dbp.exchange import ONNX, PYTORCH, export_model
        from dbp.files import must_be_free

        must_be_free(path, overwrite, self._files, "overwrite=True")
        shape = self._shape(shape) if path.suffix == ONNX or PYTORCH in options or shape is not None else None
        export_model(self._checkpoint(), path, overwrite, shape, *options)

    @property
    def _files(self) -> list[Path]:
        """Return the files that this model was read from, which must not be replaced."""
        from dbp.checkpoint import files_of

        return [] if self.path is None else files_of(self.path)

    def _checkpoint(self) -> StoredCheckpoint:
        """Return what a checkpoint stores of this model; raise UserError if a later start could not read it."""
        from dbp.run.stored_settings import stored_config, stored_meaning

        return StoredCheckpoint(
            model=self.weights,
            history={name: np.array(column) for name, column in self.history.items()},
            progress=self.progress,
            provenance={**self.provenance, "written": now()},
            config=self.config or stored_config(self.settings),
            meaning=stored_meaning(self.meaning),
        )


def _layers(model: Any) -> str:
    """Return the kinds of a model's layers."""
    if not isinstance(model, (Sequential, Graph)):
        return str(getattr(model, "kind", None) or getattr(model, "__name__", type(model).__name__))
    kinds = [str(getattr(layer, "kind", getattr(layer, "__name__", type(layer).__name__))) for layer in model.layers]
    return shortened(kinds, SHOWN_LAYERS)

"""What dbp eval prints and dbp predict writes: results of a checkpoint's model on a data file, over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dbp.blas import blas_threads
from dbp.checkpoint import StoredCheckpoint, epoch_words
from dbp.config.settings import Settings
from dbp.data import CsvFile, Dataset, Meaning, OutputFile, parse_meaning
from dbp.metrics.predictions import TargetForm
from dbp.parallel import START_SECONDS, Communicator, abort_on_error, agree, from_rank_0, world
from dbp.run.snapshot import stored_input_shape
from dbp.run.sources import print_warnings
from dbp.terminal import print_output
from dbp.text import count_text, figures, shortened
from dbp.trained.evaluator import DataFile, aligned_file, evaluator_of_checkpoint
from dbp.trained.loading import check_same_kernels, read_model, settings_of
from dbp.trained.model_on_data import ModelOnData
from dbp.trained.prediction import REFUSE, file_columns, predictions


class ModelFile(NamedTuple):
    """The trained model that a command uses.

    Args:
        path: a checkpoint, or the folder of a run.
        last: whether a folder stands for the last weights of the run rather than for those of its best epoch.
        code: the Python file, or its folder, with code of the user's that its config names; None to import none.
    """

    path: str
    last: bool = False
    code: str | None = None


def with_checkpoint(file: ModelFile, action: Callable[[Settings, StoredCheckpoint, Communicator], str]) -> int:
    """Load a checkpoint, do something with its model, and print the result on rank 0; collective.

    Args:
        file: where the model is.
        action: what to do; returns the text to print.

    Returns:
        the exit code of the command.

    Raises:
        UserError: ranks compute with different kernels, so that the bits of the result would depend on their number.
    """
    comm = world(end_after=START_SECONDS)
    check_same_kernels(comm)
    checkpoint, _ = from_rank_0(comm, read_model, Path(file.path), file.last)
    settings = agree(comm, settings_of, checkpoint, file.code)
    with abort_on_error(comm), blas_threads(settings.thread_count), np.errstate(over="ignore", invalid="ignore"):
        text = action(settings, checkpoint, comm)
    if comm.rank == 0:
        print_output(text, wrapped=True)
    return 0


def evaluate(
    settings: Settings, checkpoint: StoredCheckpoint, file: DataFile, comm: Communicator, report: bool = False
) -> str:
    """Return a line with cost and metrics of a checkpoint's model on the data in a file; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint.
        file: the data.
        comm: the ranks.
        report: whether a table with a line for each class or output follows, and the confusion matrix.
    """
    evaluator = evaluator_of_checkpoint(settings, checkpoint, file, comm, checks_first=False)
    if not report:
        found = evaluator.evaluate()
        return _figures(found.shown, found.counted, checkpoint)
    from dbp.metrics.report import Report, columns_in_table, report_lines

    found, trained = evaluator.evaluate(Report()), evaluator.trained
    lines: list[str] = []
    in_table: set[str] = set()
    for name, one in trained.targets_by_name.items():
        form = TargetForm.of(one.loss, one.output_shape, one.meaning)
        end = f"_{name}" if name else ""
        own = {table.removesuffix(end): values for table, values in found.tables.items() if table.endswith(end)}
        lines += ["", *([f"{name}:"] if name else []), *report_lines(own, form, one.meaning.units or ())]
        in_table |= {f"{column}{end}" for column in columns_in_table(form)}
    shown = {name: value for name, value in found.shown.items() if name not in in_table}
    return "\n".join([_figures(shown, found.counted, checkpoint), *lines])


def _figures(values: Mapping[str, float], counted: int, checkpoint: StoredCheckpoint) -> str:
    """Return values of an evaluation in a line, with the number of examples and the epoch of the weights."""
    which = epoch_words(checkpoint.progress)
    return f"{figures(values)}  ({count_text(counted, 'example')}{f', {which}' if which else ''})"


def predict(
    settings: Settings,
    checkpoint: StoredCheckpoint,
    file: DataFile,
    out: OutputFile,
    comm: Communicator,
    not_finite: str = REFUSE,
) -> str:
    """Write the outputs of a checkpoint's model for a file's inputs, and the loss's predictions from them; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint.
        file: data with inputs.
        out: the HDF5 or CSV file to write.
        comm: the ranks.
        not_finite: REFUSE or MARK rows whose inputs or outputs are not finite.

    Returns:
        a line that says what was written.
    """
    meaning = parse_meaning(checkpoint.meaning)
    data = aligned_file(settings.data, meaning, file, comm, with_targets=False)
    trained = agree(comm, _model_on, settings, checkpoint, data, meaning)
    if isinstance(out, CsvFile):
        agree(comm, out.check_shape, trained.output_shape)
    print_warnings(comm, data)
    marked: list[int] = []
    with out:
        from_rank_0(comm, out.create)
        for found in predictions(trained, comm, not_finite):
            marked += found.marked.tolist()
            if comm.rank == 0:
                columns, attributes = file_columns(found, trained.loss, meaning)
                out.write_rows(columns, found.first, len(data), attributes)
        from_rank_0(comm, out.commit)
    which = epoch_words(checkpoint.progress)
    by = f" by {which}" if which else ""
    return f"{count_text(len(data), 'prediction')}{by} written to {out.path}{_text_of_marked(marked)}"


def _text_of_marked(rows: Sequence[int]) -> str:
    """Return what is said of marked rows; empty without any."""
    if not rows:
        return ""
    shown = f"row{'s' * (len(rows) > 1)} {shortened([*map(str, rows)])}"
    return f"; {len(rows):,} of them marked, as inputs or outputs are not finite: {shown}"


def _model_on(settings: Settings, checkpoint: StoredCheckpoint, data: Dataset, meaning: Meaning) -> ModelOnData:
    shape = stored_input_shape(checkpoint.progress)
    return ModelOnData(settings.model, settings.loss, checkpoint.model, data, settings.numpy_dtype, meaning, shape)

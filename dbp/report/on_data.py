"""What a run's model does on a data set: what it mistakes, and what its neurons add to the error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dbp.blas import blas_threads
from dbp.checkpoint import epoch_words
from dbp.errors import UserError
from dbp.insight.neurons import neurons_of
from dbp.parallel import OneProcess
from dbp.report.confusion import NAME, confusion_of
from dbp.report.markup import Markup, section, tag
from dbp.report.mistakes import images_of, mistakes_of
from dbp.report.neuron_bars import neurons_section
from dbp.report.record import RunRecord
from dbp.trained.evaluator import DataFile, evaluator_of_checkpoint
from dbp.trained.loading import read_model, settings_of


def sections_on_data(record: RunRecord, data: DataFile, last: bool, code: str | None) -> list[Markup]:
    """Return the sections about the model of a run on a data set; a note where the model and the data do not fit.

    Args:
        record: the run.
        data: inputs and targets.
        last: whether the last weights are taken rather than those of the best epoch.
        code: the Python file with code of the user's that the run's config names; None to import none.
    """
    try:
        checkpoint, _ = read_model(record.path, last)
        settings = settings_of(checkpoint, code)
        with blas_threads(settings.thread_count), np.errstate(over="ignore", invalid="ignore"):
            evaluator = evaluator_of_checkpoint(settings, checkpoint, data, OneProcess())
            mistakes, neurons = mistakes_of(evaluator), neurons_of(evaluator)
    except UserError as error:
        return [section("On data", tag("p", f"{data.path} is not shown: {error}", class_="lead"))]
    parts, name = [], Path(data.path).name
    if mistakes is not None:
        epoch = epoch_words(checkpoint.progress)
        source = f"data {name}" + (f" ({epoch})" if epoch else "")
        parts.append(confusion_of({NAME: mistakes.confusion}, record.classes_by_target, source))
        parts.append(images_of(mistakes, record.classes, name))
    return [*parts, neurons_section(neurons, name)]

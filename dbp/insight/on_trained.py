"""A trained model on data, for what insight finds out about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dbp.blas import blas_threads
from dbp.data import Numbers
from dbp.parallel import abort_on_error, agree, ranks_of_job
from dbp.trained.evaluator import Evaluator
from dbp.trained.given_data import as_data_set
from dbp.trained.model_on_data import ModelOnData
from dbp.trained.trained_model import TrainedModel


@contextmanager
def trained_on(
    trained: TrainedModel, data: Any, scale: Numbers | None = None, dtype: np.dtype[Any] | None = None
) -> Iterator[Evaluator]:
    """Yield the evaluator of a trained model on data, with as many shards and threads as its run; collective.

    Args:
        trained: the model.
        data: as its evaluate() takes it.
        scale: likewise.
        dtype: type to compute in; by default that of the run.

    Raises:
        UserError: the data does not fit the model, or its numbers do not mean the same.
    """
    comm, settings = ranks_of_job(), trained.settings
    with abort_on_error(comm), blas_threads(settings.thread_count):
        found = as_data_set(data, settings.data, trained.meaning, comm, scale, with_targets=True)
        known = dtype or settings.numpy_dtype, trained.meaning, trained.input_shape
        model = agree(comm, ModelOnData, settings.model, settings.loss, trained.weights, found, *known)
        yield Evaluator(model, comm, int(trained.progress["shards"]))

"""The model of a trained model on the data that it is given: built once, and kept from call to call without rows."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from dbp.data import ArrayDataset, Dataset, Numbers
from dbp.parallel import Communicator, agree
from dbp.trained.given_data import as_data_set
from dbp.trained.model_on_data import ModelOnData
from dbp.trained.named_data import NamedData


class _Kept(NamedTuple):
    """A model on data whose rows are left out.

    Args:
        model: on data of another name and number of rows, with weights that the user may have changed since.
        form: of the inputs that the model was given last, see _form_of().
        arrays: a data set for inputs of this form, which were checked.
    """

    model: ModelOnData
    form: tuple[Any, ...] | None = None
    arrays: ArrayDataset | None = None


_kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()  # by the TrainedModel


def model_on(trained: Any, given: Any, comm: Communicator, scale: Numbers | None, with_targets: bool) -> ModelOnData:
    """Return a trained model on what the user gives; collective.

    Args:
        trained: the TrainedModel, whose module needs this one.
        given: see as_data_set().
        comm: the ranks.
        scale: likewise.
        with_targets: likewise.

    Raises:
        UserError: the data does not fit the model, or its numbers do not mean the same.
    """
    kept = _kept.get(trained)
    form = _form_of(given) if comm.size == 1 and scale is None and not with_targets else None
    if kept is not None and kept.arrays is not None and kept.form == form:
        return kept.model.on(kept.arrays.with_inputs(given), trained.weights)
    data = as_data_set(given, trained.settings.data, trained.meaning, comm, scale, with_targets)
    found, is_new = agree(comm, _on_data, trained, data, None if kept is None else kept.model)
    if form is not None and type(data) is ArrayDataset:
        arrays = data.with_inputs(np.empty((0, *given.shape[1:]), given.dtype))  # which holds none of the user's
        _kept[trained] = _Kept(found.on(arrays), form, arrays)
    elif is_new:
        _kept[trained] = _Kept(found.on(NamedData(data)))
    return found


def _form_of(given: Any) -> tuple[Any, ...] | None:
    """Return all that the checks of some inputs depend on, but for those of their numbers: type and shape of a row.

    It is None for anything but an array of some examples.
    """
    if type(given) is not np.ndarray or given.ndim == 0 or not len(given):
        return None
    return given.dtype, given.shape[1:]


def _on_data(trained: Any, data: Dataset, kept: ModelOnData | None) -> tuple[ModelOnData, bool]:
    """Return a trained model on a data set, and whether it is new: the one that is kept did not fit."""
    moved = None if kept is None else kept.moved_to(data, trained.weights)
    if moved is not None:
        return moved, False
    settings = trained.settings
    known = trained.weights, data, settings.numpy_dtype, trained.meaning, trained.input_shape
    new = ModelOnData(settings.model, settings.loss, *known)
    _ = new.rows_at_a_time  # which is kept too
    return new, True

"""What is looked into: a model at given weights, on the examples of a data set, over all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.config.settings import Data
from dbp.cost.loader import Loader
from dbp.cost.objective import Objective
from dbp.data import Dataset
from dbp.nn import Loss, Model, RunningMoments, as_loss, as_model
from dbp.parallel import Communicator, Layout, Shards, agree
from dbp.run.sources import check_together, open_data
from dbp.trained.model import Trained
from dbp.types import Array


@dataclass(frozen=True)
class Subject:
    """A model, its weights, and what reads this rank's examples."""

    model: Model
    loss: Loss
    parameters: dict[str, Array]
    running: dict[str, RunningMoments]
    data: Dataset
    loader: Loader
    comm: Communicator
    shards: Shards
    dtype: np.dtype[Any]

    def objective(self) -> Objective:
        """The cost over all ranks."""
        layout = Layout.of(self.parameters)
        return Objective(self.model, self.loss, layout, self.comm, self.shards, self.dtype, self.running)


def subject(
    model: Any,
    loss: Loss | str,
    weights: Mapping[str, Array],
    data: Any,
    comm: Communicator,
    shards: int | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Subject:
    """A model on data, all of it checked; collective.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name.
        weights: the parameters, and the running moments if the model has any, by name.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        comm: the ranks.
        shards: parts of the data, on which the bits of sums depend; by default the number of ranks.
        dtype: to compute in; by default that of the weights.

    Raises:
        UserError: weights, model and data do not fit together.
    """
    dtype = dtype or np.result_type(*weights.values())
    model, loss = as_model(model), as_loss(loss)
    source = agree(comm, _opened, data)
    trained = agree(comm, Trained, model, loss, weights, source, dtype)
    check_together(comm, source, trained.check_targets)
    parts = Shards(shards or comm.size, comm.rank, comm.size)
    loader = Loader(source, loss, trained.output_shape, dtype, parts)
    return Subject(model, loss, trained.parameters, trained.running, source, loader, comm, parts, dtype)


def _opened(data: Any) -> Dataset:
    settings = data if isinstance(data, Data) else Data(data)
    found = open_data(settings, settings.train)
    assert found is not None
    return found

"""A trained model on the examples of a data set, over all ranks: its cost, metrics and derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.config.settings import Data, Settings
from dbp.cost.loader import Loader
from dbp.cost.mini_batch import ExampleSums
from dbp.cost.objective import Objective
from dbp.data import Dataset
from dbp.nn import Loss, as_loss, as_model
from dbp.parallel import Communicator, Layout, Shards, agree
from dbp.run.sources import check_together, open_data, print_warnings
from dbp.trained.model import TrainedModel
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.checkpoint import StoredCheckpoint


class Evaluator:
    """A trained model and a data set whose examples are spread over the ranks; collective.

    Args:
        trained: the model and its data set.
        comm: the ranks.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.

    Raises:
        UserError: targets or weights of the data do not fit the model's outputs.
    """

    def __init__(self, trained: TrainedModel, comm: Communicator, shards: int | None = None):
        print_warnings(comm, trained.data)
        check_together(comm, trained.data, trained.check_targets)
        self.trained, self.comm = trained, comm
        self.shards = Shards(shards or comm.size, comm.rank, comm.size)
        self.loader = Loader(trained.data, trained.loss, trained.output_shape, trained.dtype, self.shards)

    def objective(self) -> Objective:
        """Return the cost over all ranks, as a function of the flat weights."""
        trained = self.trained
        layout = Layout.of(trained.parameters)
        return Objective(trained.model, trained.loss, layout, self.comm, self.shards, trained.dtype, trained.running)

    def totals(self) -> ExampleSums:
        """Return cost and metrics over all examples; collective."""
        objective = self.objective()
        weights = objective.layout.flatten(self.trained.parameters, self.trained.dtype)
        return objective.evaluate(weights, self.loader.chunks)


def evaluator_of(
    model: Any,
    loss: Loss | str,
    weights: Mapping[str, Array],
    data: Any,
    comm: Communicator,
    shards: int | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Evaluator:
    """Return the evaluator of a model on data, all of it checked; collective.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name.
        weights: the parameters, and the running moments if the model has any, by name.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        comm: the ranks.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.
        dtype: type to compute in; by default that of the weights.

    Raises:
        UserError: weights, model and data do not fit together.
    """
    dtype = dtype or np.result_type(*weights.values())
    model, loss = as_model(model), as_loss(loss)
    opened = agree(comm, _opened, data)
    return Evaluator(agree(comm, TrainedModel, model, loss, weights, opened, dtype), comm, shards)


def evaluator_of_checkpoint(
    settings: Settings, checkpoint: StoredCheckpoint, file: str, comm: Communicator, dtype: np.dtype[Any] | None = None
) -> Evaluator:
    """Return the evaluator of a checkpoint's model on the data in a file; collective.

    Args:
        settings: settings of the run that wrote the checkpoint.
        checkpoint: the checkpoint, which also says how many shards sums have.
        file: an HDF5 file.
        comm: the ranks.
        dtype: type to compute in; by default that of the run.

    Raises:
        UserError: checkpoint and data do not fit together.
    """
    data, shards = replace(settings.data, train=file), int(checkpoint.progress["shards"])
    return evaluator_of(
        settings.model, settings.loss, checkpoint.model, data, comm, shards, dtype or settings.numpy_dtype
    )


def _opened(data: Any) -> Dataset:
    settings = data if isinstance(data, Data) else Data(data)
    found = open_data(settings, settings.train)
    assert found is not None
    return found

"""A model at given weights, fitted to data: with inputs of its shape, and targets for its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.autodiff import array_of
from dbp.data import Dataset, scaled
from dbp.errors import UserError
from dbp.nn import Loss, Model, check_weights, initial_parameters, named_arrays, use
from dbp.types import Array


class Trained:
    """The model, its parameters and running moments in one type, and the shape of an example's outputs.

    Args:
        model: called on a few examples, so that it says which weights it needs.
        loss: what targets must fit.
        weights: parameters and running moments by name, as a checkpoint or a result has them.
        data: what the model is to be called on.
        dtype: to compute in.

    Raises:
        UserError: weights, model and data do not fit together.
    """

    def __init__(self, model: Model, loss: Loss, weights: Mapping[str, Array], data: Dataset, dtype: np.dtype[Any]):
        self.model, self.loss, self.data, self.dtype = model, loss, data, dtype
        example = np.zeros((2, *data.input_shape), dtype)
        try:
            initial = initial_parameters(model, example, 0, dtype)
        except UserError as error:
            raise UserError(f"{data.name}: does not fit the model: {error}") from None
        self.output_shape, self.running, moments = initial.output_shape, initial.running, named_arrays(initial.running)
        for name, shape in (initial.shapes | {name: array.shape for name, array in moments.items()}).items():
            if name not in weights:
                raise UserError(f"the weights lack {name}, which the model needs; take all of a checkpoint or a result")
            if np.shape(weights[name]) != shape:
                raise UserError(
                    f"{data.name}: inputs of shape {data.input_shape} do not fit the model: {name} would have shape "
                    f"{shape}, but has {np.shape(weights[name])}"
                )
        self.parameters = {name: np.array(weights[name], dtype, order="C") for name in initial.shapes}
        for name, array in moments.items():
            array[...] = weights[name]

    def check_targets(self, targets: Array, weights: Array | None, first: int) -> None:
        """UserError if targets or weights do not fit the model's outputs."""
        self.loss.check(targets, self.output_shape, first)
        check_weights(weights, self.loss.places(self.output_shape))

    def outputs(self, inputs: Array) -> Array:
        """The model's outputs for inputs as they are stored."""
        numbers = scaled(inputs, self.data.scale, self.dtype)
        return array_of(self.model(use(self.parameters, self.running), numbers))

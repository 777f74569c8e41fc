"""A model with trained weights, checked against the data set that it is used on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import array_of
from dbp.cost.evaluation import example_bytes, rows_at_a_time
from dbp.data import (
    FLOATS,
    ColumnMeaning,
    Dataset,
    Meaning,
    Scaling,
    example_masks,
    scalings_of,
    without_fill,
)
from dbp.errors import UserError
from dbp.nn import Loss, Model, initial_parameters, on_axes_of, running_arrays, use
from dbp.reading.example_check import ExampleCheck
from dbp.reading.output_form import OutputForm
from dbp.types import Array, Arrays


class ModelInputs(NamedTuple):
    """Some rows of a data set as a model takes them.

    Args:
        inputs: in the type and units of the model.
        weights: of the examples; None if all are 1.
        mask: which places of the inputs hold data; None if all do.
    """

    inputs: Array
    weights: Array | None
    mask: Array | None


def _other_shape(data: Dataset, trained_shape: tuple[int, ...] | None) -> UserError:
    """Return the error of data whose inputs have another shape than those of the training, which the model needs."""
    return UserError(
        f"{data.name}: inputs of shape {tuple(data.input_shape)} do not fit the model, which was trained on inputs of "
        f"shape {trained_shape}; give it data with the same {'columns' if len(data.input_shape) == 1 else 'shape'}"
    )


class ModelOnData:
    """A model with its trained parameters and running moments in one type, for the examples of a data set.

    Args:
        model: the model; called on two examples of zeros, so that it names the weights it needs.
        loss: the loss, which checks targets.
        weights: parameters and running moments by name, as in a checkpoint or a result.
        data: the data set on which the model is used.
        dtype: type to compute in.
        standardized: the meaning of the data that it was trained on, with mean and deviation of columns.
        trained_shape: of an example's inputs in the data that it was trained on, for messages; None if not known.

    Raises:
        UserError: weights, model and data do not fit together.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        weights: Mapping[str, Array],
        data: Dataset,
        dtype: np.dtype[Any],
        standardized: Meaning | None = None,
        trained_shape: tuple[int, ...] | None = None,
    ):
        self.model, self.loss, self.data, self.dtype = model, loss, data, dtype
        self.standardized = standardized or {}
        self.scaling = scalings_of(data, self.standardized).get("inputs", Scaling())
        self.targets = self.standardized.get("targets", ColumnMeaning(FLOATS))
        self.of_targets = self.targets.standardization
        example, self._masks = np.zeros((2, *data.input_shape), dtype), example_masks(data)
        try:
            initial = initial_parameters(model, example, 0, dtype, self._masks(len(example)))
        except UserError as error:
            if trained_shape not in (None, data.input_shape):
                raise _other_shape(data, trained_shape) from None
            raise UserError(f"{data.name}: does not fit the model: {error}") from None
        self.output_shape, self.running = initial.output_shape, initial.running
        self._output_places, self.form = initial.output_places, OutputForm.of(loss, initial)
        self.example_check = ExampleCheck.of(model, loss, initial, data, self.standardized)
        moments = running_arrays(self.running)
        for name, shape in (initial.shapes | {name: array.shape for name, array in moments.items()}).items():
            if name not in weights:
                raise UserError(f"the weights lack {name}, which the model needs; take all of a checkpoint or a result")
            if np.shape(weights[name]) != shape:
                if trained_shape not in (None, data.input_shape):
                    raise _other_shape(data, trained_shape)
                raise UserError(
                    f"{data.name}: inputs of shape {data.input_shape} do not fit the model: {name} would have shape "
                    f"{shape}, but has {np.shape(weights[name])}"
                )
        self.parameters = {name: np.asarray(weights[name], dtype, order="C") for name in initial.shapes}
        for name, array in moments.items():
            array[...] = weights[name]

    def moved_to(self, data: Dataset) -> ModelOnData | None:
        """Return this model on another data set, for which it is not built anew; None if it must be.

        It must be built for examples of another shape, and for masks.
        """
        has_masks = self._masks(1) is not None or example_masks(data)(1) is not None
        if has_masks or data.input_shape != self.data.input_shape:
            return None
        moved = copy.copy(self)
        moved.data, scaling = data, scalings_of(data, self.standardized).get("inputs", Scaling())
        moved.scaling, moved.example_check = scaling, replace(self.example_check, scaling=scaling)
        return moved

    def without_rows(self, named: Dataset) -> ModelOnData:
        """Return this model without its data set, of which another one has the name and the shape alone."""
        _ = self.rows_at_a_time  # which the other one has then too
        kept = copy.copy(self)
        kept.data = named
        return kept

    def read(self, rows: slice) -> ModelInputs:
        """Read rows of the data set, with inputs in the type and units of the model."""
        read = without_fill(self.data.read(rows))
        return ModelInputs(self.scaling.apply(read.inputs, self.dtype), read.weights, read.mask)

    def example_mask(self, examples: int) -> Arrays:
        """Return a mask for a number of examples of zeros; None if the data has none."""
        return self._masks(examples)

    @cached_property
    def rows_at_a_time(self) -> int:
        """Return how many examples are evaluated at a time."""
        return rows_at_a_time(
            example_bytes(
                self.model,
                self.parameters,
                self.running,
                self.data.input_shape,
                self.dtype,
                self._masks,
            )
        )

    def outputs(self, inputs: Array, mask: Array | None = None) -> Array:
        """Return the model's outputs for some inputs, of which the mask says which places hold data.

        Outputs with places have as many as those for the longest example. They are zeros where a place is masked.
        """
        return self.outputs_and_mask(inputs, mask)[0]

    def outputs_and_mask(self, inputs: Array, mask: Array | None) -> tuple[Array, Array | None]:
        """Return the model's outputs, and which of their places hold data; None for outputs without places."""
        scope = use(self.parameters, self.running, mask=mask)
        outputs = array_of(self.model(scope, inputs))
        if mask is None or not self._output_places:
            return outputs, None
        valid = scope.mask_of_outputs(self.model)
        if valid is None:  # all places hold data
            valid = np.ones(outputs.shape[: 1 + self._output_places], np.bool_)
        padded = np.zeros((len(outputs), *self.output_shape), outputs.dtype)
        longest = np.zeros(padded.shape[: valid.ndim], np.bool_)
        inside = tuple(map(slice, valid.shape))
        padded[inside] = np.where(on_axes_of(valid, outputs), outputs, 0)
        longest[inside] = valid
        return padded, longest

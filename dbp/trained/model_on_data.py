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
from dbp.cost.planned_passes import is_fixed
from dbp.data import (
    FLOATS,
    ColumnMeaning,
    Dataset,
    Meaning,
    Scaling,
    counting_rows,
    example_masks,
    role_of,
    scaled_inputs,
    scalings_of,
    without_fill,
)
from dbp.data.dataset import example_form
from dbp.errors import UserError
from dbp.named_arrays import each, zeros_of
from dbp.nn import (
    JointLoss,
    Loss,
    Model,
    Prepared,
    Scope,
    call_with,
    initial_parameters,
    on_axes_of,
    running_arrays,
)
from dbp.reading.example_check import ExampleCheck
from dbp.reading.output_form import JointForm, output_form
from dbp.run.standardization import meaning_of_target, standardizations
from dbp.text import shapes_text
from dbp.types import Array, Arrays, Shape, Shapes


class ModelInputs(NamedTuple):
    """Some rows of a data set as a model takes them.

    Args:
        inputs: in the type and units of the model; several by name.
        counts: which rows have a weight that is not 0; None if all count.
        mask: which positions of the inputs hold data; None if all do.
    """

    inputs: Arrays
    counts: Array | None
    mask: Arrays


class TargetOnData(NamedTuple):
    """A target of a model.

    Args:
        loss: of the target.
        output_shape: of the output for it, for one example.
        meaning: of the target in the training data.
    """

    loss: Loss
    output_shape: Shape
    meaning: ColumnMeaning


def _other_shape(data: Dataset, trained_shape: Shapes) -> UserError:
    """Return the error of data whose inputs have another shape than those of the training, which the model needs."""
    shape = each(tuple, data.input_shape)
    is_row = not isinstance(shape, Mapping) and len(shape) == 1
    now, then = (shapes_text(one) if isinstance(one, Mapping) else one for one in (shape, trained_shape))
    same = "columns" if is_row else "shape"
    return UserError(
        f"{data.name}: inputs of shape {now} do not fit the model, which was trained on inputs of shape {then}; "
        f"give it data with the same {same}"
    )


class ModelOnData:
    """A model with its trained parameters and running moments in one type, for the examples of a data set.

    Args:
        model: the model; called on two examples of zeros, so that it names the weights it needs.
        loss: the loss, which checks targets; of several targets, a JointLoss.
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
        loss: Any,
        weights: Mapping[str, Array],
        data: Dataset,
        dtype: np.dtype[Any],
        standardized: Meaning | None = None,
        trained_shape: Shapes | None = None,
    ):
        self.model, self.data, self.dtype = model, data, dtype
        self.copies_inputs = not is_fixed(model)  # as a function of the user's may write to them
        self.standardized = standardized or {}
        self.prepared: Prepared | None = None  # see for_a_pass()
        self.scalings = scalings_of(data, self.standardized)
        example, self._masks = zeros_of(data.input_shape, 2, dtype), example_masks(data)
        try:
            initial = initial_parameters(model, example, 0, dtype, self._masks(2))
        except UserError as error:
            if trained_shape not in (None, data.input_shape):
                raise _other_shape(data, trained_shape) from None
            raise UserError(f"{data.name}: does not fit the model: {error}") from None
        columns = [name for name in (*example_form(data), *self.standardized) if role_of(name) == "targets"]
        self.form, self.running = output_form(loss, initial, [*dict.fromkeys(columns)] or None), initial.running
        self.loss = self.form.loss
        self.output_shape = self._named(initial.output_shape)
        self._output_positions = self._named(initial.output_positions)
        self.example_check = ExampleCheck.of(model, self.form, initial, data, self.standardized)
        moments = {name: (array.shape, array.dtype) for name, array in running_arrays(self.running).items()}
        self._forms = {name: (shape, dtype) for name, shape in initial.shapes.items()} | moments
        self._trained_shape = trained_shape
        self._take(weights)

    def _take(self, weights: Mapping[str, Array]) -> None:
        """Take weights as they are now: parameters where they are, running moments as copies."""
        taken: dict[str, Array] = {}
        for name, (shape, dtype) in self._forms.items():
            if name not in weights:
                raise UserError(f"the weights lack {name}, which the model needs; take all of a checkpoint or a result")
            taken[name] = np.asarray(weights[name], dtype, order="C")
            if taken[name].shape != shape:
                if self._trained_shape not in (None, self.data.input_shape):
                    raise _other_shape(self.data, self._trained_shape)
                raise UserError(
                    f"{self.data.name}: inputs of shape {self.data.input_shape} do not fit the model: {name} would "
                    f"have shape {shape}, but has {taken[name].shape}"
                )
        if self.running:
            self.running = {path: moments.copy() for path, moments in self.running.items()}
            for name, array in running_arrays(self.running).items():
                array[...] = taken.pop(name)
        self.parameters = taken

    def moved_to(self, data: Dataset, weights: Mapping[str, Array]) -> ModelOnData | None:
        """Return this model on another data set, for which it is not built anew; None if it must be.

        It must be built for examples of another shape, and for masks.

        Args:
            data: the data set.
            weights: of the model, which may have changed.

        Raises:
            UserError: the weights do not fit the model.
        """
        has_masks = self._masks(1) is not None or example_masks(data)(1) is not None
        if has_masks or data.input_shape != self.data.input_shape:
            return None
        moved = self.on(data, weights)
        moved.scalings = scalings_of(data, self.standardized)
        moved.example_check = replace(self.example_check, scalings=moved.scalings)
        return moved

    @property
    def targets(self) -> ColumnMeaning:
        """Return the meaning of the only target without a name."""
        return self.standardized.get("targets", ColumnMeaning(FLOATS))

    @property
    def targets_by_name(self) -> dict[str, TargetOnData]:
        """Return what is known of each target, by its name; "" is the name of the only one without a name."""
        if not isinstance(self.form, JointForm):
            return {"": TargetOnData(self.form.loss, self.form.shape, self.targets)}
        forms = self.form.forms.items()
        return {n: TargetOnData(one.loss, one.shape, meaning_of_target(self.standardized, n)) for n, one in forms}

    @property
    def target_scaling(self) -> Any:
        """Return the standardization of the targets; of several, by their names."""
        return standardizations(self.form, self.standardized)

    def _named(self, outputs: Any) -> Any:
        """Return what is known of outputs by name, where targets have names."""
        return self.loss.named(outputs) if isinstance(self.loss, JointLoss) else outputs

    def in_units(self, outputs: Arrays) -> Arrays:
        """Return outputs in the units of the targets."""
        scalings = self.target_scaling
        if not isinstance(outputs, Mapping):
            return scalings.undo(outputs)
        return {name: scalings.get(name, Scaling()).undo(output) for name, output in outputs.items()}

    def for_a_pass(self) -> ModelOnData:
        """Return this model for calls between which its parameters do not change, so that layers prepare them once."""
        model = copy.copy(self)
        model.prepared = {}
        return model

    def on(self, data: Dataset, weights: Mapping[str, Array] | None = None) -> ModelOnData:
        """Return this model on another data set of the same form: shape, types and meaning.

        Args:
            data: the data set.
            weights: of the model, which may have changed; None if they have not.

        Raises:
            UserError: the weights do not fit the model.
        """
        other = copy.copy(self)
        other.data = data
        if weights is not None:
            other._take(weights)  # noqa: SLF001
        return other

    def read(self, rows: slice) -> ModelInputs:
        """Read rows of the data set, with inputs in the type and units of the model."""
        read = without_fill(self.data.read(rows))
        weights = [values for name, values in read.items() if role_of(name) == "weights"]
        counts = np.logical_or.reduce([counting_rows(values) for values in weights]) if weights else None
        return ModelInputs(scaled_inputs(read, self.scalings, self.dtype, self.copies_inputs), counts, read.mask)

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

    def outputs(self, inputs: Arrays, mask: Arrays = None) -> Arrays:
        """Return the model's outputs for some inputs, of which the mask says which positions hold data.

        Outputs with positions have as many as those for the longest example. They are zeros where a position is masked.
        """
        return self.outputs_and_mask(inputs, mask)[0]

    def outputs_and_mask(self, inputs: Arrays, mask: Arrays) -> tuple[Arrays, Arrays]:
        """Return the model's outputs, and which of their positions hold data; None for outputs without positions.

        Both are by name where targets have names.
        """
        call = call_with(self.parameters, self.running, mask=mask)
        call.prepared = {} if self.prepared is None else self.prepared
        scope = Scope(call)
        outputs = each(array_of, self._named(self.model(scope, inputs)))
        if mask is None:
            return outputs, each(lambda _: None, outputs) if isinstance(outputs, Mapping) else None
        after = scope.mask_of_outputs(self.model)
        if not isinstance(outputs, Mapping):
            return _with_all_positions(outputs, after, self._output_positions, self.output_shape)
        masks: Mapping[str, Array] = after if isinstance(after, Mapping) else {}
        found = {
            name: _with_all_positions(output, masks.get(name), self._output_positions[name], self.output_shape[name])
            for name, output in outputs.items()
        }
        return {name: output for name, (output, _) in found.items()}, {name: m for name, (_, m) in found.items()}


def _with_all_positions(
    outputs: Array, valid: Array | None, positions: int, output_shape: Shape
) -> tuple[Array, Array | None]:
    """Return outputs with the positions of the longest example, and a mask of them; None without positions.

    Args:
        outputs: of some examples.
        valid: which of their positions hold data; None if all do, or there are none.
        positions: how many axes of the outputs are positions of masked inputs.
        output_shape: for the longest example.
    """
    if not positions:
        return outputs, None
    if valid is None:  # all positions hold data
        valid = np.ones(outputs.shape[: 1 + positions], np.bool_)
    padded = np.zeros((len(outputs), *output_shape), outputs.dtype)
    longest = np.zeros(padded.shape[: valid.ndim], np.bool_)
    inside = tuple(map(slice, valid.shape))
    padded[inside] = np.where(on_axes_of(valid, outputs), outputs, 0)
    longest[inside] = valid
    return padded, longest

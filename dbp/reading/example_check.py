"""The check of examples by a model and its loss: targets and weights, and the numbers that layers refuse in inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from dbp.data import Dataset, Examples, Meaning, Scaling, example_masks, scaled_inputs, scalings_of
from dbp.errors import UserError
from dbp.named_arrays import each, row_count, zeros_of
from dbp.nn import InitialParameters, Model, check_inputs
from dbp.reading.output_form import Form
from dbp.types import Arrays


@dataclass(frozen=True)
class ExampleCheck:
    """The rules that a model and its loss have for examples.

    Args:
        model: the model.
        form: of its outputs, which targets must fit.
        scalings: of the columns as they are stored, by name.
        dtype: of the run.
        layers: the paths of the layers that refuse some numbers in their inputs.
        unchecked: those of them that come after a parameter, so that they are not asked here.
    """

    model: Model
    form: Form
    scalings: Mapping[str, Scaling]
    dtype: np.dtype[Any]
    layers: tuple[str, ...]
    unchecked: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: Model,
        form: Form,
        initial: InitialParameters,
        data: Dataset,
        standardized: Meaning | None = None,
    ) -> ExampleCheck:
        """Return the rules for the examples of a data set.

        Args:
            model: the model.
            form: of its outputs.
            initial: its initial parameters.
            data: the data set.
            standardized: the meaning of columns whose numbers are used as deviations from a mean, by name.
        """
        layers, dtype = initial.input_checks, initial.dtype
        asked = 0
        if layers:
            zeros = zeros_of(data.input_shape, 2, dtype)
            asked = check_inputs(model, zeros, example_masks(data)(2), len(layers))
        return cls(model, form, scalings_of(data, standardized), dtype, layers[:asked], layers[asked:])

    def __call__(self, examples: Examples, first: int) -> None:
        """Raise UserError if some examples do not fit.

        Args:
            examples: the examples.
            first: row of the first of them, for the message.
        """
        self.form.check_targets(examples, first)
        if not self.layers:  # then the inputs need not be scaled
            return
        with np.errstate(all="ignore"):  # the check of precision comes after this one
            inputs = scaled_inputs(examples, self.scalings, self.dtype)
        self.check_inputs(inputs, examples.mask, first)

    def check_inputs(self, inputs: Arrays, mask: Arrays, first: int) -> None:
        """Raise UserError for the first example with numbers that a layer refuses.

        Args:
            inputs: of some examples, in the type and units of the model.
            mask: which positions of the inputs hold data; None if all do.
            first: row of the first of them, for the message.
        """
        if not self.layers:
            return
        try:
            self._ask(inputs, mask)
        except UserError:
            for row in range(row_count(inputs)):
                one = slice(row, row + 1)
                try:
                    self._ask(each(itemgetter(one), inputs), each(itemgetter(one), mask))
                except UserError as error:
                    raise UserError(f"inputs of example {first + row} do not fit the model: {error}") from None
            raise

    def _ask(self, inputs: Arrays, mask: Arrays) -> None:
        check_inputs(self.model, inputs, mask, len(self.layers))

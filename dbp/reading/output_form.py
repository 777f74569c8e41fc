"""The form of a model's outputs, which targets must fit."""

from __future__ import annotations

from typing import NamedTuple

from dbp.data import Examples, places_of, weighted_by_places
from dbp.nn import InitialParameters, Loss, check_targets


class OutputForm(NamedTuple):
    """The loss that takes a model's outputs, and their shape.

    Args:
        loss: of the outputs.
        shape: of the outputs for one example, the longest if they have unequal lengths.
        places: how many axes of the shape are places of masked inputs, as many as those of the inputs.
    """

    loss: Loss
    shape: tuple[int, ...]
    places: int = 0

    @classmethod
    def of(cls, loss: Loss, initial: InitialParameters) -> OutputForm:
        """Return the form of the outputs of a model, given its initial parameters."""
        return cls(loss, initial.output_shape, initial.places_kept)

    def check_targets(self, examples: Examples, first: int) -> None:
        """Raise UserError if targets or weights of some examples do not fit.

        Args:
            examples: the examples.
            first: row of the first of them, for the message.
        """
        weighted = weighted_by_places(examples, self.places)
        assert weighted.targets is not None
        shape = places_of(self.shape, weighted.targets, weighted.mask, self.places)
        check_targets(self.loss, weighted.targets, weighted.weights, shape, first)

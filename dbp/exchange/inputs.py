"""The shape and scaling of a model's inputs, from arguments or from the training data."""

from __future__ import annotations

from typing import NamedTuple

from dbp.config.data import Data
from dbp.data import FLOATS, ColumnMeaning, Dataset, Meaning, Scaling, example_masks, meaning_of
from dbp.errors import UserError
from dbp.run.sources import open_data
from dbp.run.standardization import standardized_like, with_moments

Shape = tuple[int, ...]


class Inputs(NamedTuple):
    """The shape of an example, and the map from its numbers to those that the model sees."""

    shape: Shape
    scaling: Scaling


def inputs_of(data: Data, meaning: Meaning, shape: Shape | None, scale: float | None) -> Inputs:
    """Return shape and scaling as given, and what is not given from the checkpoint or the training data.

    Args:
        data: the data settings of the checkpoint.
        meaning: what the checkpoint says of the training data; of imported weights perhaps nothing.
        shape: the shape of an example, if it is given.
        scale: the scale, if it is given, in place of scale and shift.

    Raises:
        UserError: the training data is needed, but missing.
    """
    known = meaning.get("inputs")
    if known is None and data.scale is not None:
        known = ColumnMeaning(FLOATS, data.scale, shift=data.shift)
    if shape is None or (known is None and scale is None):
        wanted = ["--input 28,28,1"] * (shape is None) + ["--scale 1"] * (known is None and scale is None)
        found = _open(data, "give what it would say, such as " + " ".join(wanted))
        if shape is None and example_masks(found)(1) is not None:
            raise UserError(
                f"the examples in {found.name} have masked places, or unequal lengths, of which ONNX knows nothing; "
                "give the shape of the examples that the graph is for, without such places, as in --input 28,28,1"
            )
        shape, known = shape or found.input_shape, known or meaning_of(found)["inputs"]
    known = known or ColumnMeaning(FLOATS)
    return Inputs(shape, (known if scale is None else known._replace(scale=float(scale), shift=None)).scaling)


def input_shape_of(data: Data, shape: Shape | None) -> Shape:
    """Return the given shape or that of the training data; raise UserError if the data is needed, but missing."""
    return shape or _open(data, "give the shape of an example, such as --input 28,28,1").input_shape


def meaning_of_training(data: Data) -> Meaning:
    """Return what the numbers of the training data mean, as far as the data is there.

    Raises:
        UserError: they are standardized by mean and deviation that only a training finds.
    """
    if isinstance(data.standardize, str):
        raise UserError(
            "data.standardize must name the run whose mean and deviation imported weights were trained with, such as "
            f"{{ from = RUN }}, but is {data.standardize!r}; or leave it out, and give the data scale and shift"
        )
    known = {} if data.standardize_from is None else standardized_like(data.standardize_from)
    try:
        found = meaning_of(_open(data, ""))
    except UserError:
        return known
    return with_moments(found, known)


def _open(data: Data, remedy: str) -> Dataset:
    try:
        found = open_data(data, data.train)
    except UserError as error:
        raise UserError(f"{error}; without the data, {remedy}") from None
    assert found is not None
    return found

"""The shape and scale of a model's inputs, from arguments or from the training data."""

from __future__ import annotations

from typing import NamedTuple

from dbp.config.data import Data
from dbp.data import Dataset, Meaning, meaning_of
from dbp.errors import UserError
from dbp.run.sources import open_data

Shape = tuple[int, ...]


class Inputs(NamedTuple):
    """The shape of an example, and the factor by which inputs are multiplied."""

    shape: Shape
    scale: float


def inputs_of(data: Data, meaning: Meaning, shape: Shape | None, scale: float | None) -> Inputs:
    """Return shape and scale as given, and what is not given from the checkpoint or the training data.

    Args:
        data: the data settings of the checkpoint.
        meaning: what the checkpoint says of the training data; of imported weights perhaps nothing.
        shape: the shape of an example, if it is given.
        scale: the scale, if it is given.

    Raises:
        UserError: the training data is needed, but missing.
    """
    if scale is None:
        scale = meaning["inputs"].factor if "inputs" in meaning else data.scale
    if shape is not None and scale is not None:
        return Inputs(shape, scale)
    wanted = ["--input 28,28,1"] * (shape is None) + ["--scale 1"] * (scale is None)
    found = _open(data, "give what it would say, such as " + " ".join(wanted))
    return Inputs(shape or found.input_shape, scale if scale is not None else 1 if found.scale is None else found.scale)


def input_shape_of(data: Data, shape: Shape | None) -> Shape:
    """Return the given shape or that of the training data; raise UserError if the data is needed, but missing."""
    return shape or _open(data, "give the shape of an example, such as --input 28,28,1").input_shape


def meaning_of_training(data: Data) -> Meaning:
    """Return what the numbers of the training data mean; empty if the data is missing or of no use."""
    try:
        return meaning_of(_open(data, ""))
    except UserError:
        return {}


def _open(data: Data, remedy: str) -> Dataset:
    try:
        found = open_data(data, data.train)
    except UserError as error:
        raise UserError(f"{error}; without the data, {remedy}") from None
    assert found is not None
    return found

"""What a model's inputs are like: the shape of an example and the scale, of the training data unless told."""

from __future__ import annotations

from typing import NamedTuple

from dbp.config.settings import Data
from dbp.data import Dataset
from dbp.errors import UserError
from dbp.run.sources import open_data

Shape = tuple[int, ...]


class Inputs(NamedTuple):
    """The shape of an example, and what inputs are multiplied by."""

    shape: Shape
    scale: float


def inputs_of(data: Data, shape: Shape | None, scale: float | None) -> Inputs:
    """What is told of the inputs, and the rest from the config or the training data.

    Raises:
        UserError: the data is needed, but is not there.
    """
    scale = data.scale if scale is None else scale
    if shape is not None and scale is not None:
        return Inputs(shape, scale)
    wanted = ["--input 28,28,1"] * (shape is None) + ["--scale 1"] * (scale is None)
    found = _open(data, "give what it would tell, such as " + " ".join(wanted))
    return Inputs(shape or found.input_shape, scale if scale is not None else 1 if found.scale is None else found.scale)


def input_shape_of(data: Data, shape: Shape | None) -> Shape:
    """The shape of an example, as told, or else of the training data; UserError if that is not there."""
    return shape or _open(data, "give the shape of an example, such as --input 28,28,1").input_shape


def _open(data: Data, remedy: str) -> Dataset:
    try:
        found = open_data(data, data.train)
    except UserError as error:
        raise UserError(f"{error}; without the data, {remedy}") from None
    assert found is not None
    return found

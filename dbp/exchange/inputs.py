"""The shape and scaling of a model's inputs, from arguments or from the training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dbp.config.data import Data
from dbp.data import FLOATS, ColumnMeaning, Dataset, Meaning, Scaling, example_masks, meaning_of, role_of
from dbp.errors import UserError
from dbp.named_arrays import as_dict
from dbp.nn import INPUTS
from dbp.run.sources import open_data
from dbp.run.standardization import standardized_like, with_moments
from dbp.types import Shapes


class Inputs(NamedTuple):
    """The shape of an example, and the map from its numbers to those that the model sees; by name of several inputs."""

    shape: Shapes
    scaling: Any


def meaning_in(meaning: Meaning, role: str) -> Any:
    """Return the meaning of the only column of a role, or of several columns by name; None for none.

    Args:
        meaning: of all columns.
        role: such as "inputs".
    """
    named = {name.partition(".")[2]: what for name, what in meaning.items() if role_of(name) == role}
    return meaning.get(role) or named or None


def inputs_of(data: Data, meaning: Meaning, shape: Shapes | None, scale: float | None) -> Inputs:
    """Return shape and scaling as given, and what is not given from the checkpoint or the training data.

    Args:
        data: the data settings of the checkpoint.
        meaning: what the checkpoint says of the training data; of imported weights perhaps nothing.
        shape: the shape of an example, or shapes by name, if they are given.
        scale: the scale, if it is given, in place of scale and shift; of all inputs.

    Raises:
        UserError: the training data is needed, but missing.
    """
    known = meaning_in(meaning, "inputs")
    if known is None and data.scale is not None:
        known = ColumnMeaning(FLOATS, data.scale, shift=data.shift)
    if shape is None or (known is None and scale is None):
        wanted = ["--input 28,28,1"] * (shape is None) + ["--scale 1"] * (known is None and scale is None)
        found = _open(data, "give what it would say, such as " + " ".join(wanted))
        shape, known = shape or found.input_shape, known or meaning_in(meaning_of(found), "inputs")
    if not isinstance(shape, Mapping):
        return Inputs(shape, _scaling(known, scale))
    named = known if isinstance(known, Mapping) else {}
    return Inputs(shape, {name: _scaling(named.get(name), scale) for name in shape})


def _scaling(known: ColumnMeaning | None, scale: float | None) -> Scaling:
    """Return the map of one input, whose scale and shift a scale replaces."""
    known = known or ColumnMeaning(FLOATS)
    return (known if scale is None else known._replace(scale=float(scale), shift=None)).scaling


def input_shape_of(data: Data, shape: Shapes | None) -> Shapes:
    """Return the given shape or that of the training data; raise UserError if the data is needed, but missing."""
    return shape or _open(data, "give the shape of an example, such as --input 28,28,1").input_shape


def positions_with_masks(data: Data) -> dict[str, int]:
    """Return the number of the axes of positions, of each input of which the training data masks some, by name.

    Sequences of unequal length have masks too. The only input without a name is called "inputs".
    """
    masks = example_masks(_open(data, "give the shape of an example, such as --input 28,28,1"))(1)
    named = as_dict(masks, INPUTS)
    return {name: mask.ndim - 1 for name, mask in named.items() if mask is not None}


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

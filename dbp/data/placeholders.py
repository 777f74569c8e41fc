"""What stands in for data: numbers of weight 0 and in masked positions, which must count nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dbp.data.dataset import Dataset, Examples, example_form, role_of, weights_for
from dbp.errors import UserError
from dbp.named_arrays import each
from dbp.types import Array, Shape

ExampleMasks = Callable[[int], Any]  # from a number of examples: a mask, masks by name, or None


def without_placeholders(examples: Examples) -> Examples:
    """Return examples with zeros for the targets whose weight is 0, and for the inputs if an example's are all 0.

    Inputs are zeros in masked positions too. What stands there, such as NaN or class -100, must count nowhere, but 0
    times infinity is not 0.
    """
    if examples.count_alike:
        return examples
    examples = without_fill(examples)
    unused = {name: values == 0 for name, values in examples.items() if role_of(name) == "weights"}
    if not any(positions.any() for positions in unused.values()):
        return examples
    columns = dict(examples)
    targets = {name: weights_for(name, unused) for name in columns if role_of(name) == "targets"}
    if None not in targets.values() and (rows := _unused_rows(list(unused.values()))).any():
        for name in columns:
            if role_of(name) == "inputs":
                columns[name] = columns[name].copy()
                columns[name][rows] = 0
    for name in targets:
        if (marked := unused_targets(name, examples)) is not None:
            columns[name] = columns[name].copy()
            columns[name][marked] = 0
    return Examples(columns)


def without_fill(examples: Examples) -> Examples:
    """Return examples with zeros for the inputs in masked positions."""
    masks = {name: mask for name, mask in examples.items() if role_of(name) == "mask" and not mask.all()}
    if not masks:
        return examples
    columns = dict(examples)
    for name, mask in masks.items():
        inputs = "inputs" + name.removeprefix("mask")
        if inputs in columns:  # a target alone goes without
            columns[inputs] = columns[inputs].copy()
            columns[inputs][~mask] = 0
    return Examples(columns)


def weighted_by_positions(examples: Examples, output_positions: int) -> Examples:
    """Return examples in which targets of masked positions have weight 0.

    Args:
        examples: as they are stored.
        output_positions: how many axes of a model's outputs are positions of masked inputs; 0 for examples as they are.
    """
    targets, mask, weights = examples.targets, examples.mask, examples.weights
    if mask is None or targets is None or output_positions != mask.ndim - 1 or targets.shape[: mask.ndim] != mask.shape:
        return examples
    if weights is None:
        weights = np.ones(len(mask), np.float32)
    if weights.ndim == 1:
        weights = weights.reshape(-1, *[1] * output_positions)
    if weights.shape[1 : mask.ndim] not in ((1,) * output_positions, mask.shape[1:]):
        return examples  # whose weights are refused
    valid = mask.reshape(mask.shape + (1,) * (weights.ndim - mask.ndim))
    return without_placeholders(Examples({**examples, "weights": np.where(valid, weights, weights.dtype.type(0))}))


def _unused_rows(unused: Sequence[Array]) -> Any:
    """Return a mask of the rows whose weights are 0 in every column of weights."""
    return np.concatenate([positions.reshape(len(positions), -1) for positions in unused], axis=1).all(axis=1)


def unused_targets(name: str, columns: Mapping[str, Array]) -> Array | None:
    """Return a mask of the targets whose weight is 0, along their first axes; None if there are none.

    Args:
        name: the column of targets.
        columns: it and the other columns, by name.
    """
    targets, weights = columns[name], weights_for(name, columns)
    if weights is None:
        return None
    unused = columns[weights] == 0
    if unused.ndim > targets.ndim:
        unused = unused.all(axis=tuple(range(targets.ndim, unused.ndim)))
    fits = targets.shape[: unused.ndim] == unused.shape  # else the check of weights refuses them
    return np.asarray(unused) if fits and unused.any() else None


def counting_rows(weights: Array) -> Array:
    """Return for each example whether any of its weights is not 0."""
    return np.asarray((weights != 0).reshape(len(weights), -1).any(axis=1))


def example_masks(data: Dataset) -> ExampleMasks:
    """Return a function that returns a mask for a number of examples of zeros, to build a model with.

    All positions but the last hold data. The mask is None for data without one; of named inputs, there is one for each
    that has a mask.

    Raises:
        UserError: the mask of a data set of the user's own is not of booleans.
    """
    masks = example_form(data).mask
    for mask in masks.values() if isinstance(masks, Mapping) else [masks]:
        if mask is not None and mask.dtype != np.bool_:
            raise UserError(f"{data.name}: mask must be booleans, but has type {mask.dtype}; return mask != 0")
    shapes = data.input_shape
    if isinstance(masks, Mapping):
        shapes = {name: shapes[name][: mask.ndim - 1] for name, mask in masks.items()}
    else:
        shapes = None if masks is None else shapes[: masks.ndim - 1]

    def made(examples: int) -> Any:
        return each(lambda shape: _mask_without_last(examples, shape), shapes)

    return made


def _mask_without_last(examples: int, shape: Shape) -> Array:
    """Return a mask for examples of these positions, of which all but the last hold data."""
    whole = np.ones((examples, *shape), np.bool_)
    whole.reshape(examples, -1)[:, -1] = False
    return whole

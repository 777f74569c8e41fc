"""A model at its start: called once, so that it asks for its parameters, and shows whether its shapes fit."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Array, ShapeError, Value
from dbp.errors import UserError, remedy
from dbp.nn.initialisers import Shape, initialiser
from dbp.nn.moments import RunningMoments, named_arrays
from dbp.nn.scope import Call, Model, Scope, read_only
from dbp.random import generator

# How NumPy begins to say that shapes do not fit.
MISFITS = ("operands could not be broadcast", "matmul: ", "shapes (", "could not broadcast", "cannot reshape array")
OURS, NUMPY = Path(__file__).parents[1], Path(np.__file__).parent


class Initial(NamedTuple):
    """What a model starts with: parameters and running moments by path, and the shape of an example's outputs."""

    parameters: dict[str, Array]
    output_shape: Shape
    running: dict[str, RunningMoments]


def initial_parameters(model: Model, inputs: Array, seed: int, dtype: np.dtype[Any] | str = "float32") -> Initial:
    """The model's parameters by name, and the shape of its outputs for one example.

    Args:
        model: called once, so that it asks for its parameters.
        inputs: a few examples; only their shape and type matter.
        seed: each parameter is drawn from a stream of its own, keyed by seed and name.
        dtype: of the parameters.

    Raises:
        UserError: shapes do not fit somewhere in the model, which says where.
    """
    parameters: dict[str, Array] = {}
    running: dict[str, RunningMoments] = {}

    def make(path: str, shape: Shape, initial: str) -> Array:
        if path not in parameters:
            rng = generator(seed, f"initial weights of {path}")
            parameters[path] = initialiser(initial)(rng, shape).astype(dtype)
        elif parameters[path].shape != shape:
            raise UserError(f"parameter {path!r} is asked for as {shape} and {parameters[path].shape}")
        return read_only(parameters[path])

    def make_running(path: str, channels: int, decay: float) -> RunningMoments:
        return running.setdefault(path, RunningMoments.at_start(channels, decay, dtype))

    outputs = _called(model, Scope(Call(make, make_running)), inputs)
    if np.shape(outputs)[:1] != (len(inputs),):
        raise UserError(
            f"a model must give one output per example, but {len(inputs)} examples gave outputs of shape "
            f"{np.shape(outputs)}"
        )
    if not parameters:
        raise UserError("the model has no parameters, so there is nothing to train; add a layer such as dense")
    return Initial(parameters, tuple(np.shape(outputs)[1:]), running)


def take_over(initial: Initial, weights: Mapping[str, Array], source: str) -> None:
    """Give parameters and running moments the numbers of other weights of the same model, such as another run's.

    Args:
        initial: what the model starts with.
        weights: by name, as a checkpoint or a result has them.
        source: of the weights, as an error names it.

    Raises:
        UserError: they are not the weights of this model.
    """
    arrays = initial.parameters | named_arrays(initial.running)
    for name in weights:
        if name not in arrays:
            raise UserError(f"{source}: the model has no {name!r}; {remedy(name, arrays)}")
    for name, array in arrays.items():
        if name not in weights:
            raise UserError(
                f"{source}: {name!r} is missing, which the model needs; take all of a checkpoint or a result"
            )
        if np.shape(weights[name]) != array.shape:
            shape = np.shape(weights[name])
            raise UserError(f"{source}: {name!r} has shape {shape}, but the model needs {array.shape}")
        array[...] = weights[name]


def _called(model: Model, scope: Scope, inputs: Array) -> Value:
    try:
        return model(scope, inputs)
    except ShapeError as error:
        line = _lines(error)[0]
        raise UserError(f"{line}: {error}" if line else str(error)) from None
    except ValueError as error:
        line, last = _lines(error)
        if last and str(error).startswith(MISFITS):  # else it is a bug, whose traceback tells more
            raise UserError(f"{line}: {error}") from None
        raise


def _lines(error: Exception) -> tuple[str, bool]:
    """The last line of code on an error's way that is the user's own, and whether nothing but NumPy came after it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if NUMPY not in Path(f.filename).parents]
    own = [f for f in frames if OURS not in Path(f.filename).parents]
    if not own:
        return "", False
    return f"in {own[-1].name} (line {own[-1].lineno} of {Path(own[-1].filename).name})", own[-1] is frames[-1]

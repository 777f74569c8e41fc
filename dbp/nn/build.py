"""A model at its start: called once, so that it asks for its parameters, and shows whether its shapes fit.

For that call no parameter is drawn but small ones, so it takes little memory and time however large the model is.
"""

from __future__ import annotations

import math
import mmap
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from dbp.autodiff import ShapeError, Value
from dbp.errors import UserError, remedy
from dbp.nn.initializers import Shape, initializer
from dbp.nn.moments import RunningMoments, named_arrays
from dbp.nn.scope import Call, Model, Scope, read_only
from dbp.random import generator
from dbp.types import Array

# How NumPy begins to say that shapes do not fit.
MISFITS = ("operands could not be broadcast", "matmul: ", "shapes (", "could not broadcast", "cannot reshape array")
OURS, NUMPY = Path(__file__).parents[1], Path(np.__file__).parent
SMALL = 1 << 12  # numbers of a parameter that is drawn even where only its shape matters


@dataclass(frozen=True)
class Initial:
    """What a model starts with.

    Args:
        shapes: of its parameters, by path, in the order in which it asks for them.
        initializers: their names, likewise.
        running: its running moments, by path.
        seed: each parameter is drawn from a stream of its own, keyed by seed and path.
        dtype: of the parameters.
        output_shape: of one example.
    """

    shapes: dict[str, Shape]
    initializers: dict[str, str]
    running: dict[str, RunningMoments]
    seed: int
    dtype: np.dtype[Any]
    output_shape: Shape = ()

    def draw(self, path: str, out: Array) -> None:
        """Fill an array of its shape, of any type and in one piece, with a parameter as it is at the start."""
        initializer(self.initializers[path])(generator(self.seed, f"initial weights of {path}"), out)

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """All parameters by path, drawn when they are first asked for."""
        drawn = {path: np.empty(shape, self.dtype) for path, shape in self.shapes.items()}
        for path, array in drawn.items():
            self.draw(path, array)
        return drawn

    def stand_in(self, path: str) -> Array:
        """Something of a parameter's shape and type, read-only, for calls of which only shapes matter.

        A large one consists of zeros; a small one is the parameter itself, as a model may do what cannot be done with
        zeros.
        """
        shape = self.shapes[path]
        if math.prod(shape) > SMALL:
            return _zeros(shape, self.dtype)
        drawn = np.empty(shape, self.dtype)
        self.draw(path, drawn)
        return read_only(drawn)


def _zeros(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Zeros that cannot be written, so that the system shows one page of them everywhere; np.zeros() may use up memory.

    It does where memory that was freed before is kept, and has to be cleared.
    """
    count = math.prod(shape)
    memory = mmap.mmap(-1, count * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def initial_parameters(model: Model, inputs: Array, seed: int, dtype: np.dtype[Any] | str = "float32") -> Initial:
    """What a model starts with: its parameters by name, and the shape of its outputs for one example.

    Args:
        model: called once, so that it asks for its parameters.
        inputs: a few examples; only their shape and type matter.
        seed: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: shapes do not fit somewhere in the model, which says where.
    """
    found = Initial({}, {}, {}, seed, np.dtype(dtype))

    def make(path: str, shape: Shape, initial: str) -> Array:
        if path not in found.shapes:
            initializer(initial)  # which there must be
            found.shapes[path], found.initializers[path] = tuple(map(index, shape)), initial
        elif found.shapes[path] != shape:
            raise UserError(f"parameter {path!r} is asked for as {shape} and {found.shapes[path]}")
        return found.stand_in(path)

    def make_running(path: str, channels: int, decay: float) -> RunningMoments:
        return found.running.setdefault(path, RunningMoments.at_start(channels, decay, dtype))

    with np.errstate(divide="ignore", invalid="ignore"):  # what zeros may give where the parameter would not
        outputs = _called(model, Scope(Call(make, make_running)), inputs)
    if np.shape(outputs)[:1] != (len(inputs),):
        raise UserError(
            f"a model must give one output per example, but {len(inputs)} examples gave outputs of shape "
            f"{np.shape(outputs)}"
        )
    if not found.shapes:
        raise UserError("the model has no parameters, so there is nothing to train; add a layer such as dense")
    return replace(found, output_shape=tuple(np.shape(outputs)[1:]))


def must_fit_model(initial: Initial, weights: Mapping[str, Array], source: str) -> None:
    """UserError if these are not the weights of a model.

    Args:
        initial: what the model starts with.
        weights: parameters and running moments by name, as a checkpoint or a result has them.
        source: of the weights, as an error names it.
    """
    shapes = initial.shapes | {name: array.shape for name, array in named_arrays(initial.running).items()}
    for name in weights:
        if name not in shapes:
            raise UserError(f"{source}: the model has no {name!r}; {remedy(name, shapes)}")
    for name, needed in shapes.items():
        if name not in weights:
            raise UserError(
                f"{source}: {name!r} is missing, which the model needs; take all of a checkpoint or a result"
            )
        if np.shape(weights[name]) != needed:
            shape = np.shape(weights[name])
            raise UserError(f"{source}: {name!r} has shape {shape}, but the model needs {needed}")


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

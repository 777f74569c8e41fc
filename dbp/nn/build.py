"""Building a model: call it once to learn its parameters, and check that its shapes fit.

In that call large parameters are read-only zeros that take no memory, so building is cheap however large the model is.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from dbp.autodiff import Recomputed, ShapeError, Tensor, Value
from dbp.autodiff.primitives import identity, reshape, sigmoid, softmax, transpose
from dbp.errors import UserError, remedy, unknown
from dbp.files import machine_memory
from dbp.named_arrays import as_dict, each, row_count, shapes_of
from dbp.nn.call import Call, RandomKey, RowUses, call_with, masks_of, read_only
from dbp.nn.initializers import Shape, initializer
from dbp.nn.moments import RunningMoments, running_arrays
from dbp.nn.names import check_name, check_names
from dbp.nn.scope import Model, Scope
from dbp.nn.user_line import SHAPE_MESSAGES, user_line
from dbp.random import generator
from dbp.types import Array, Arrays, Shapes

MAX_DRAWN = 1 << 12  # elements; a larger parameter is zeros while the model is built


@dataclass(frozen=True)
class InitialParameters:
    """The parameters of a model at the start of training.

    Args:
        shapes: of the parameters, by path, in the order in which the model asks for them.
        initializers: their names, likewise.
        running: the running moments, by path.
        seed: each parameter is drawn from a stream of its own, keyed by seed and path.
        dtype: of the parameters.
        output_shape: of one example. Of a model that returns several outputs by name, this and the next three are by
            their names.
        output_positions: how many of its first axes are positions of masked inputs.
        positions_kept: the same, if they are as many positions as those of the inputs; else 0.
        masked_inputs: the name of the inputs whose positions they are, "" for inputs without a name; None without
            positions.
        input_checks: the paths of the layers that refuse some numbers in their inputs.
        constants: the paths of those parameters that are never trained.
        row_uses: how those parameters are used of which the model takes some rows alone, by path.
    """

    shapes: dict[str, Shape]
    initializers: dict[str, str]
    running: dict[str, RunningMoments]
    seed: int
    dtype: np.dtype[Any]
    output_shape: Any = ()
    output_positions: Any = 0
    positions_kept: Any = 0
    masked_inputs: Any = None
    input_checks: tuple[str, ...] = ()
    constants: frozenset[str] = frozenset()
    row_uses: Mapping[str, RowUses] = field(default_factory=dict)

    @property
    def shapes_of_weights(self) -> dict[str, Shape]:
        """Return the shapes of all weights by name: those of the parameters and of the running moments."""
        moments = running_arrays(self.running)
        return {**self.shapes, **{name: array.shape for name, array in moments.items()}}

    def draw(self, path: str, out: Array) -> None:
        """Fill a contiguous array of the parameter's shape, of any dtype, with the initial values."""
        initializer(self.initializers[path])(generator(self.seed, f"initial weights of {path}"), out)

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """Draw all parameters, once; return them by path."""
        drawn = {path: np.empty(shape, self.dtype) for path, shape in self.shapes.items()}
        for path, array in drawn.items():
            self.draw(path, array)
        return drawn

    def stand_in(self, path: str) -> Array:
        """Return a read-only array of a parameter's shape and dtype, for calls in which only shapes matter.

        A large one consists of zeros. A small one is the parameter itself, as zeros may break a user's function.
        """
        shape = self.shapes[path]
        if math.prod(shape) > MAX_DRAWN:
            _check_memory(path, math.prod(shape) * self.dtype.itemsize)
            return _virtual_zeros(shape, self.dtype)
        drawn = np.empty(shape, self.dtype)
        self.draw(path, drawn)
        return read_only(drawn)


def _check_memory(path: str, size: int) -> None:
    """Raise UserError for a parameter that is larger than the memory of this machine."""
    if size > (memory := machine_memory()):
        raise UserError(
            f"parameter {path!r} does not fit in memory: this machine has {memory / 1e6:,.0f} MB, but it needs "
            f"{size / 1e6:,.0f}; take a smaller layer"
        )


def _virtual_zeros(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return read-only zeros that take no memory: the system maps one page of zeros everywhere.

    np.zeros() does take memory where it reuses pages that were freed before, since it has to clear them.
    """
    count = math.prod(shape)
    memory = mmap.mmap(-1, count * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def initial_parameters(
    model: Model, inputs: Arrays, seed: int, dtype: np.dtype[Any] | str = "float32", mask: Arrays | None = None
) -> InitialParameters:
    """Call a model once and return its initial parameters by path, and the shape of its output for one example.

    Args:
        model: a layer, or a function model(scope, inputs).
        inputs: a few examples, an array or arrays by name; only shape and dtype matter.
        seed: of the parameters.
        dtype: of the parameters.
        mask: which positions of the inputs hold data, or masks by name; None if the model is not for inputs with a
            mask.

    Raises:
        UserError: shapes do not fit somewhere in the model, which the message names, or a checkpoint cannot hold the
            names of its parameters.
    """
    found, uses = InitialParameters({}, {}, {}, seed, np.dtype(dtype)), Counter[str]()

    def make(path: str, shape: Shape, name: str) -> Array:
        uses[path] += 1
        if path not in found.shapes:
            check_name(path)
            initializer(name)  # raises if there is none of this name
            found.shapes[path], found.initializers[path] = tuple(map(index, shape)), name
        elif found.shapes[path] != shape:
            raise UserError(f"parameter {path!r} is asked for as {shape} and {found.shapes[path]}")
        return found.stand_in(path)

    def make_running(path: str, channels: int, decay: float) -> RunningMoments:
        check_name(f"{path}running_mean")
        return found.running.setdefault(path, RunningMoments.at_start(channels, decay, dtype))

    with np.errstate(divide="ignore", invalid="ignore"):  # zeros divide by zero where the real parameter would not
        call = Call(make, make_running, **masks_of(mask))
        scope = Scope(call)
        outputs = _call(model, scope, inputs)
    _check_outputs(outputs, row_count(inputs))
    check_names(found.shapes, running_arrays(found.running))
    if found.shapes.keys() == call.constants:  # there are no others
        raise UserError("the model has no parameters, so there is nothing to train; add a layer such as dense")
    by_rows = _used_by_rows(uses, call.row_uses)
    form = _output_fields(shapes_of(outputs), scope.mask_of_outputs(model), inputs, mask)
    found = replace(found, constants=frozenset(call.constants), row_uses=by_rows)
    return replace(found, **form, input_checks=tuple(call.input_checks))


def _used_by_rows(uses: Mapping[str, int], by_rows: Mapping[str, RowUses]) -> dict[str, RowUses]:
    """Return the parameters of which no use is of all rows; UserError if a sparse one has such a use.

    Args:
        uses: the number of all uses of each parameter, by path.
        by_rows: the uses of some of its rows.
    """
    found = {path: of_rows for path, of_rows in by_rows.items() if of_rows.count == uses[path]}
    for path, of_rows in by_rows.items():
        if of_rows.sparse and path not in found:
            raise UserError(
                f"{path!r} is sparse, so that a step changes only rows that its examples look up, but the model uses "
                "all of it too; leave sparse out"
            )
    return found


def _check_outputs(outputs: Any, examples: int) -> None:
    """Raise UserError unless a model has returned one output per example, or several by name."""
    if isinstance(outputs, Mapping) and not outputs:
        raise UserError("a model must return an array, or arrays by name, but returned none")
    for name, output in as_dict(outputs).items():
        if np.shape(output)[:1] != (examples,):
            which = f" as its output {name!r}" if name else ""
            raise UserError(
                f"a model must return one output per example, but for {examples} examples it returned shape "
                f"{np.shape(output)}{which}"
            )


def _output_fields(shapes: Shapes, after: Arrays, inputs: Arrays, mask: Arrays | None) -> dict[str, Any]:
    """Return the fields of InitialParameters that are about its outputs.

    Args:
        shapes: of the outputs for one example.
        after: which positions of the outputs hold data; None if they have none, or all do.
        inputs: of the model.
        mask: of the inputs.
    """
    fields = ("output_positions", "positions_kept", "masked_inputs")
    if not isinstance(shapes, Mapping):
        return {
            "output_shape": shapes,
            **dict(zip(fields, _output_position_fields(shapes, after, inputs, mask), strict=True)),
        }
    masks: Mapping[str, Any] = after if isinstance(after, Mapping) else {}
    found = {name: _output_position_fields(shape, masks.get(name), inputs, mask) for name, shape in shapes.items()}
    by_field = {field: {name: one[i] for name, one in found.items()} for i, field in enumerate(fields)}
    return {"output_shape": shapes, **by_field}


def _output_position_fields(
    output_shape: Shape, after: Array | None, inputs: Arrays, mask: Arrays | None
) -> tuple[int, int, Any]:
    """Return output_positions, positions_kept and masked_inputs of one output; see InitialParameters.

    Args:
        output_shape: of an example.
        after: which positions of the output hold data; None if it has none, or all do.
        inputs: of the model.
        mask: of the inputs.
    """
    if after is None:
        return 0, 0, None
    positions = after.ndim - 1
    masks = as_dict(mask)
    alike = [name for name, of_input in masks.items() if of_input is not None and of_input.shape == after.shape]
    name = next((name for name in alike if masks[name] is after), next(iter(alike), None))
    if name is None:
        return positions, 0, None
    of_inputs = np.shape(inputs[name] if isinstance(inputs, Mapping) else inputs)
    return positions, positions if output_shape[:positions] == of_inputs[1 : 1 + positions] else 0, name


@dataclass(frozen=True)
class TrainingTrial:
    """What a training pass over a few examples shows of a model.

    Args:
        ending: "softmax" or "sigmoid" if the model ends with this function, else ""; of several outputs, by name.
        numbers: for each example, the numbers per channel by whose moments over a shard a layer normalizes, by path.
        batch_numbers: likewise, of layers that normalize by moments over the whole mini-batch.
    """

    ending: Any
    numbers: dict[str, float]
    batch_numbers: dict[str, float]


def training_trial(
    model: Model, initial: InitialParameters, inputs: Arrays, mask: Arrays | None = None, frozen: Collection[str] = ()
) -> TrainingTrial:
    """Call a model as in a training step, with parameters of the right shapes.

    Args:
        model: a layer, or a function model(scope, inputs).
        initial: its initial parameters.
        inputs: a few examples; only shape and dtype matter.
        mask: which positions of the inputs hold data, as in training; None for no mask.
        frozen: names of the parameters that are not trained.

    Raises:
        UserError: the outputs depend on frozen parameters alone.
    """
    leaves = {path: _stand_in(initial, path, path in frozen) for path in initial.shapes}
    call = call_with(leaves, initial.running, RandomKey(initial.seed, 0, 0), mask=mask)
    with np.errstate(all="ignore"):  # only shapes matter
        outputs = _call(model, Scope(call), inputs)
    found = outputs.values() if isinstance(outputs, Mapping) else [outputs]
    if frozen and not any(type(y) is Tensor for y in found):
        raise UserError("the outputs depend on frozen parameters alone; leave out of frozen what is to be trained")

    def numbers(statistics: str) -> dict[str, float]:
        observed = {path: moments for path, moments in call.observed.items() if moments.normalizes == statistics}
        return {path: moments.count / row_count(inputs) for path, moments in observed.items()}

    return TrainingTrial(each(_ending, outputs), numbers("shard"), numbers("batch"))


def _stand_in(initial: InitialParameters, path: str, is_frozen: bool) -> Value:
    array = initial.stand_in(path)
    return array if is_frozen else Tensor(array)


def _ending(outputs: Value) -> str:
    """Return the name of the last function in a graph, if it is softmax or sigmoid."""
    while type(outputs) is Tensor and outputs.primitive not in (softmax, sigmoid):
        if type(outputs.primitive) is Recomputed:
            outputs = outputs.primitive.record_again(outputs.inputs, outputs.options)
        elif outputs.primitive in (identity, reshape, transpose):
            outputs = outputs.inputs[0]
        else:
            return ""
    return outputs.primitive.name if type(outputs) is Tensor and outputs.primitive else ""


def check_model_weights(
    shapes: Mapping[str, Shape], weights: Mapping[str, Array], source: str, other_shape: str = ""
) -> None:
    """Raise UserError unless these are the weights of a model: its names, each with its shape.

    Args:
        shapes: of the weights of the model, or of a part of it, by name.
        weights: parameters and running moments by name, as a checkpoint or a result has them.
        source: of the weights, as an error names it.
        other_shape: what to do about an array of another shape, as the error on it says.
    """
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
            remedy_text = f"; {other_shape}" if other_shape else ""
            raise UserError(f"{source}: {name!r} has shape {shape}, but the model needs {needed}{remedy_text}")


class _NamedInputs(dict[str, Array]):
    """Inputs by name, of which one that there is not is an error of the user."""

    def __missing__(self, name: str) -> Array:
        raise unknown("input of the model", name, self)


def _call(model: Model, scope: Scope, inputs: Arrays) -> Value:
    """Return the model's outputs; turn errors about shapes into UserErrors that name the user's line."""
    try:
        outputs = model(scope, _NamedInputs(inputs) if isinstance(inputs, dict) else inputs)
        return dict(outputs) if isinstance(outputs, Mapping) else outputs
    except ShapeError as error:
        line = user_line(error)[0]
        raise UserError(f"{line}: {error}" if line else str(error)) from None
    except MemoryError as error:
        raise UserError(
            f"the model takes more memory than this machine has, for {row_count(inputs)} examples: {error}"
        ) from None
    except ValueError as error:
        line, raised_by_numpy = user_line(error)
        if raised_by_numpy and str(error).startswith(SHAPE_MESSAGES):
            raise UserError(f"{line}: {error}") from None
        raise  # a bug, whose traceback says more

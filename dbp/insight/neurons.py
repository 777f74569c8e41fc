"""Measure what each neuron contributes to the error: delta = dcost/dz of every unit, over all examples and ranks.

z is the weighted input of a unit, before its activation. A unit belongs to a dense layer, or is a channel of a
convolution, which has one z at each position of an example.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, pullback
from dbp.blas import blas_threads
from dbp.cost.joint import LossFactors, loss_sum
from dbp.cost.mini_batch import losses_of
from dbp.data import Meaning, Numbers
from dbp.errors import UserError
from dbp.insight.on_trained import trained_on
from dbp.named_arrays import row_count, zeros_of
from dbp.nn import Call, JointLoss, Loss, Scope, call_with
from dbp.parallel import PlainSum, abort_on_error, agree, world
from dbp.reading.shard import Shard
from dbp.text import count_text, table
from dbp.trained.evaluator import Evaluator, evaluator_of
from dbp.trained.model_on_data import ModelOnData
from dbp.trained.trained_model import TrainedModel
from dbp.types import Array, Arrays

TOP_LEVEL = "model"  # the path of neurons that a model has at the root of its tree of names
LEGEND = (
    ("  size", "mean |dloss/dz| over examples and positions; z: weighted input"),
    ("  sum", "of dcost/dz over examples and positions: the gradient of its bias"),
    ("  activation", "mean"),
    ("  silent", "share of the examples where dloss/dz is 0; of a dead unit all"),
)
SHOWN_DEAD = 8  # dead units that are named in the text


@dataclass(frozen=True)
class LayerNeurons:
    """Figures of a layer's units, each an array (units,).

    Args:
        signed_sum: sum of dcost/dz over all examples and positions.
        mean_magnitude: mean over examples and positions of |dloss/dz|, loss that of one example.
        mean_activation: mean of the activation over examples and positions.
        silent: fraction of the examples for which delta is exactly 0 at every position.
    """

    signed_sum: Array
    mean_magnitude: Array
    mean_activation: Array
    silent: Array

    @property
    def dead(self) -> Array:
        """Return for each unit whether delta is exactly 0 everywhere, so that the weights into it learn nothing."""
        return np.equal(self.silent, 1)

    def arrays(self) -> dict[str, Array]:
        """Return all figures by name."""
        names = ("signed_sum", "mean_magnitude", "mean_activation", "silent", "dead")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Neurons:
    """The figures of the units of each layer, and the cost over the same examples.

    Args:
        layers: the figures of each layer by its path; neurons["dense_1"] is short for neurons.layers["dense_1"].
        cost: of the examples.
        examples: their number.
    """

    layers: Mapping[str, LayerNeurons]
    cost: float
    examples: int

    def __getitem__(self, path: str) -> LayerNeurons:
        return self.layers[path]

    def __str__(self) -> str:
        return self.text()

    def text(self, top: int = 5) -> str:
        """Return a table of the units with the largest deltas and a list of the dead ones, for each layer.

        Args:
            top: number of units that are shown of each layer.
        """
        lines = [f"cost {self.cost:.6g} over {count_text(self.examples, 'example')}", *table(LEGEND, left=(0, 1))]
        for path, layer in self.layers.items():
            units = len(layer.silent)
            head = f"{path}: {units:,} unit{'s' * (units != 1)}, {_dead_text(layer.dead)}"
            lines += ["", head, *_largest(layer, top)]
        return "\n".join(lines)


def _dead_text(dead: Array) -> str:
    numbers = np.flatnonzero(dead)
    if not len(numbers):
        return "none dead"
    more = ", ..." if len(numbers) > SHOWN_DEAD else ""
    return f"{len(numbers):,} dead ({', '.join(map(str, numbers[:SHOWN_DEAD]))}{more})"


def _largest(layer: LayerNeurons, top: int) -> list[str]:
    order = np.argsort(-layer.mean_magnitude, kind="stable")[:top]
    rows = [["  unit", "size", "sum", "activation", "silent"]]
    for unit in order:
        size, total = f"{layer.mean_magnitude[unit]:.3e}", f"{layer.signed_sum[unit]:+.3e}"
        rows.append([f"{unit}", size, total, f"{layer.mean_activation[unit]:.4g}", f"{100 * layer.silent[unit]:.1f} %"])
    return table(rows, left=())


@functools.singledispatch
def neurons(
    model: Any,
    loss: Loss | str,
    weights: Mapping[str, Array],
    data: Any,
    shards: int | None = None,
    meaning: Meaning | None = None,
) -> Neurons:
    """Return the deltas of all units of a model over all examples; collective.

    Of a trained model: neurons(trained, data), with data as its evaluate() takes it.

    Args:
        model: a model, or a list of layers; a function registers its neurons with scope.neurons(z).
        loss: a loss, or its name.
        weights: weights by name, such as those of dbp.fit's result or of a checkpoint.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.
        meaning: of the training data, as dbp.fit's result has it, with mean and deviation if it was standardized.

    Raises:
        UserError: model, weights and data do not fit together, or the model registers no neurons.
        NotFiniteError: the cost is not finite.
    """
    comm = world()
    with abort_on_error(comm), blas_threads(1), np.errstate(over="ignore", invalid="ignore"):
        return neurons_of(evaluator_of(model, loss, weights, data, comm, shards, standardized=meaning))


@neurons.register
def _(model: TrainedModel, data: Any, *, scale: Numbers | None = None) -> Neurons:
    """Return the deltas of all units of a trained model over all examples; collective.

    Args:
        model: the trained model.
        data: as its evaluate() takes it.
        scale: likewise.
    """
    with np.errstate(over="ignore", invalid="ignore"), trained_on(model, data, scale) as evaluator:
        return neurons_of(evaluator)


def neurons_of(evaluator: Evaluator) -> Neurons:
    """Return the deltas of all units of an evaluator's model over its data; collective."""
    trained = evaluator.trained
    columns = agree(evaluator.comm, _Columns.of, trained)
    loss_factors = (
        evaluator.objective().loss_factors(evaluator.loader.chunks) if isinstance(trained.loss, JointLoss) else None
    )
    vector_sum = PlainSum(evaluator.comm, evaluator.shards, 0, trained.dtype, columns.width)
    tree = vector_sum.start()
    for number in evaluator.shards.mine:
        part = vector_sum.buffer()
        part.scalars[:] = 0
        for chunk in evaluator.loader.chunks(number):
            part.scalars += columns.sums(trained, chunk, loss_factors)
        tree.push(0, number, part)
    found = columns.figures(vector_sum.total(tree).scalars, len(trained.data))
    evaluator.check_cost(found.cost)
    return found


class _LayerValues(NamedTuple):
    """A layer's weighted inputs and activations, one of each for every use of the layer.

    Args:
        inputs: the weighted inputs.
        activations: the functions of them.
        masks: which of their positions hold data; None if all do.
    """

    inputs: list[Tensor]
    activations: list[Value]
    masks: list[Array | None]

    def valid(self, use: int) -> Array:
        """Return which positions of a use hold data, (examples, positions)."""
        z, mask = self.inputs[use], self.masks[use]
        shape = z.shape[:-1]
        whole = np.ones(shape, bool) if mask is None else np.broadcast_to(_with_axes(mask, len(shape)), shape)
        return whole.reshape(len(z), -1)

    @property
    def valid_positions(self) -> Array:
        """Return for each example the number of its positions that hold data, over all uses; at least 1."""
        counts = [self.valid(use).sum(axis=1) for use in range(len(self.inputs))]
        return np.asarray(np.maximum(np.sum(counts, axis=0), 1), np.float64)

    @property
    def positions(self) -> int:
        """Return the number of positions of an example, over all uses."""
        return sum(z.value.size // (len(z) * z.shape[-1]) for z in self.inputs)


def _layer_values(call: Call, examples: int) -> dict[str, _LayerValues]:
    """Return the neurons that a call registered, by the path of their layer."""
    found = {}
    for path, inputs in call.neurons.items():
        shapes = [np.shape(z) for z in inputs]
        if any(type(z) is not Tensor for z in inputs) or any(s[:1] != (examples,) or len(s) < 2 for s in shapes):
            raise UserError(
                f"neurons of {path or TOP_LEVEL!r} must be (examples, ..., units) and depend on parameters, but for "
                f"{examples} examples their shapes are {shapes}"
            )
        if len({shape[-1] for shape in shapes}) > 1:
            raise UserError(
                f"neurons of {path or TOP_LEVEL!r} are registered with different numbers of units; "
                "give each layer a scope of its own: scope.inside(name)"
            )
        found[path or TOP_LEVEL] = _LayerValues(inputs, call.activations[path], call.neuron_masks[path])
    return found


def _with_axes(mask: Array, axes: int) -> Array:
    """Return a mask with this number of axes."""
    return mask.reshape(mask.shape + (1,) * (axes - mask.ndim))


def _forward(trained: ModelOnData, inputs: Arrays, mask: Arrays) -> tuple[Any, dict[str, _LayerValues]]:
    """Return the model's outputs and its neurons."""
    leaves = {name: Tensor(array) for name, array in trained.parameters.items()}
    call = call_with(leaves, trained.running, record_neurons=True, mask=mask)
    outputs = trained.model(Scope(call), inputs)
    return outputs, _layer_values(call, row_count(inputs))


@dataclass(frozen=True)
class _Columns:
    """The numbers that are summed over shards.

    The first three are the total weight, loss and number of the examples whose weight is not 0. Four numbers follow for
    each unit of each layer.

    Args:
        units: number of units of each layer, by its path.
        positions: number of positions of an example in each layer; 1 if examples have unequal numbers of them, by which
            sums are divided example by example.
        is_masked: whether they have.
    """

    units: dict[str, int]
    positions: dict[str, int]
    is_masked: bool

    @classmethod
    def of(cls, trained: ModelOnData) -> _Columns:
        """Return the columns of a model from one pass over zeros, which a rank without examples can do too."""
        zeros, mask = zeros_of(trained.data.input_shape, 2, trained.dtype), trained.example_mask(2)
        _, layers = _forward(trained, zeros, mask)
        if not layers:
            raise UserError("the model registers no neurons; a function does so with scope.neurons(z)")
        units = {path: layer.inputs[0].shape[-1] for path, layer in layers.items()}
        positions = {path: layer.positions if mask is None else 1 for path, layer in layers.items()}
        return cls(units, positions, mask is not None)

    @property
    def width(self) -> int:
        """Return how many numbers are summed."""
        return 3 + 4 * sum(self.units.values())

    def sums(self, trained: ModelOnData, chunk: Shard, loss_factors: LossFactors | None = None) -> Array:
        """Return the sums over some examples, in float64.

        Args:
            trained: the model.
            chunk: the examples.
            loss_factors: of the losses of several targets, see cost/joint.py; None for one target.
        """
        outputs, layers = _forward(trained, chunk.inputs, chunk.mask)
        losses = losses_of(trained.loss, outputs, chunk)
        given = chunk.example_weights if loss_factors is None else None  # else they are in the sum of the losses
        weights = np.ones(chunk.count, trained.dtype) if given is None else given
        units = [z for layer in layers.values() for z in layer.inputs]
        if loss_factors is None:
            deltas = iter(pullback(losses, weights, units))
            loss = np.sum(array_of(losses) * weights.astype(np.float64))
        else:
            total = loss_sum(losses, chunk, loss_factors)
            is_recorded = type(total) is Tensor
            deltas = iter(pullback(total, np.ones((), trained.dtype), units) if is_recorded else [None] * len(units))
            loss = np.float64(array_of(total))
        example_weights = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.float64)
        counted = np.count_nonzero(example_weights) if loss_factors is None else chunk.counted
        parts = [np.array([example_weights.sum(), loss, counted])]
        for layer in layers.values():
            of_layer = [next(deltas) for _ in layer.inputs]
            parts += _layer_sums(layer, of_layer, example_weights, layer.valid_positions if self.is_masked else None)
        return np.concatenate(parts)

    def figures(self, totals: Array, examples: int) -> Neurons:
        """Return the figures of each layer from the sums over all shards."""
        (weight, loss, counted), rest = totals[:3], totals[3:]
        weight, layers = weight or 1.0, {}
        for path, units in self.units.items():
            (signed, size, activation, silent), rest = rest[: 4 * units].reshape(4, units), rest[4 * units :]
            layers[path] = LayerNeurons(
                signed / weight, size / (weight * self.positions[path]), activation / weight, silent / (counted or 1.0)
            )
        return Neurons(layers, float(loss / weight), examples)


def _layer_sums(
    layer: _LayerValues, deltas: Sequence[Value | None], example_weights: Array, positions: Array | None
) -> list[Array]:
    """Return four sums over examples for each unit: delta, |delta|, mean activation, examples without any delta.

    Args:
        layer: the layer's neurons.
        deltas: the derivative by each of its weighted inputs; None for a derivative of zero.
        example_weights: weight of each example.
        positions: by which |delta| of each example is divided; None where it is the same for all, and follows later.
    """
    units = layer.inputs[0].shape[-1]
    signed, size, activation = np.zeros(units), np.zeros(units), np.zeros(units)
    silent = np.repeat(example_weights[:, None] > 0, units, axis=1)
    for use, (z, y, found) in enumerate(zip(layer.inputs, layer.activations, deltas, strict=True)):
        rows = (len(z), -1, units)
        delta = np.zeros(z.shape).reshape(rows) if found is None else array_of(found).reshape(rows)
        signed += delta.sum(axis=(0, 1), dtype=np.float64)
        values = array_of(y).reshape(rows)
        if positions is None:
            size += np.abs(delta).sum(axis=(0, 1), dtype=np.float64)
            activation += example_weights @ values.sum(axis=1, dtype=np.float64) / layer.positions
        else:
            size += (1 / positions) @ np.abs(delta).sum(axis=1, dtype=np.float64)
            values = np.where(layer.valid(use)[..., None], values, 0)
            activation += (example_weights / positions) @ values.sum(axis=1, dtype=np.float64)
        silent &= (delta == 0).all(axis=1)
    return [signed, size, activation, silent.sum(axis=0, dtype=np.float64)]

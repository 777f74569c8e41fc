"""What each neuron contributed to the error: delta = dcost/dz of every unit, summed over all examples and ranks.

z is the weighted input of a unit of a dense layer, or of a channel of a convolution, before its activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, pullback
from dbp.cost.objective import Shard, as_weighted
from dbp.errors import UserError
from dbp.nn import Call, Loss, Scope, call_with
from dbp.parallel import Reduction, agree, blas_threads, together, world
from dbp.text import table
from dbp.trained.subject import Subject, subject
from dbp.types import Array

TOP_LEVEL = "model"  # the name of neurons that a model has at the root of its tree of names
LEGEND = (
    ("  size", "mean over examples and places of |dloss/dz|, z the weighted input of the unit"),
    ("  sum", "of dcost/dz over all examples and places: the gradient of a bias of the unit"),
    ("  activation", "mean"),
    ("  silent", "part of the examples where dloss/dz is exactly 0; a unit silent in all is dead"),
)
SHOWN = 8  # dead units that are named in the text


@dataclass(frozen=True)
class LayerNeurons:
    """Figures of a layer's units, arrays (units,)."""

    signed_sum: Array  # of dcost/dz over all examples and places
    mean_magnitude: Array  # mean over examples and places of |dcost_i/dz|, cost_i the loss of one example
    mean_activation: Array
    silent: Array  # the part of the examples for which delta is exactly 0 at every place

    @property
    def dead(self) -> Array:
        """Whether delta is exactly 0 for every example and place, so that the weights into the unit learn nothing."""
        return np.equal(self.silent, 1)

    def arrays(self) -> dict[str, Array]:
        """All figures by name."""
        names = ("signed_sum", "mean_magnitude", "mean_activation", "silent", "dead")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Neurons:
    """The figures of each layer, by its path, and the cost that they belong to."""

    layers: Mapping[str, LayerNeurons]
    cost: float
    examples: int

    def __getitem__(self, path: str) -> LayerNeurons:
        return self.layers[path]

    def __str__(self) -> str:
        return self.text()

    def text(self, top: int = 5) -> str:
        """The strongest units of each layer, and the dead ones."""
        lines = [f"cost {self.cost:.6g} over {self.examples:,} examples", *table(LEGEND, left=(0, 1))]
        for path, layer in self.layers.items():
            units = len(layer.silent)
            head = f"{path}: {units:,} unit{'s' * (units != 1)}, {_named_dead(layer.dead)}"
            lines += ["", head, *_strongest(layer, top)]
        return "\n".join(lines)


def _named_dead(dead: Array) -> str:
    numbers = np.flatnonzero(dead)
    if not len(numbers):
        return "none dead"
    more = ", ..." if len(numbers) > SHOWN else ""
    return f"{len(numbers):,} dead ({', '.join(map(str, numbers[:SHOWN]))}{more})"


def _strongest(layer: LayerNeurons, top: int) -> list[str]:
    order = np.argsort(-layer.mean_magnitude, kind="stable")[:top]
    rows = [["  unit", "size", "sum", "activation", "silent"]]
    for unit in order:
        size, total = f"{layer.mean_magnitude[unit]:.3e}", f"{layer.signed_sum[unit]:+.3e}"
        rows.append([f"{unit}", size, total, f"{layer.mean_activation[unit]:.4g}", f"{100 * layer.silent[unit]:.1f} %"])
    return table(rows, left=())


def neurons(
    model: Any, loss: Loss | str, weights: Mapping[str, Array], data: Any, shards: int | None = None
) -> Neurons:
    """The deltas of all units that a model makes known, over all examples; on all ranks of this job.

    Args:
        model: a model, or a list of layers; a function of one's own makes neurons known with scope.neurons(z).
        loss: a loss, or its name.
        weights: by name, such as those of dbp.fit's result or of a checkpoint.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        shards: parts of the data, on which the bits depend; by default the number of ranks.

    Raises:
        UserError: model, weights and data do not fit together, or no neurons are known.
    """
    comm = world()
    with together(comm), blas_threads(1):
        return neurons_of(subject(model, loss, weights, data, comm, shards))


def neurons_of(examined: Subject) -> Neurons:
    """The same, of what has been checked already; collective."""
    sums = agree(examined.comm, _Columns.of, examined)
    reduction = Reduction(examined.comm, examined.shards, 0, examined.dtype, sums.width)
    tree = reduction.start()
    for number in examined.shards.mine:
        part = reduction.buffer()
        part.scalars[:] = 0
        for chunk in examined.loader.chunks(number):
            part.scalars += sums.of_chunk(examined, chunk)
        tree.push(0, number, part)
    return sums.figures(reduction.total(tree).scalars, len(examined.data))


class _Known(NamedTuple):
    """A layer's weighted inputs and activations, one of each for every use of the layer."""

    inputs: list[Tensor]
    activations: list[Value]

    @property
    def places(self) -> int:
        """Of an example, over all uses."""
        return sum(z.value.size // (len(z) * z.shape[-1]) for z in self.inputs)


def _known(call: Call, examples: int) -> dict[str, _Known]:
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
                f"neurons of {path or TOP_LEVEL!r} are made known with different numbers of units; "
                "give each layer a scope of its own: scope.inside(name)"
            )
        found[path or TOP_LEVEL] = _Known(inputs, call.activations[path])
    return found


def _watched(examined: Subject, inputs: Array) -> tuple[Value, dict[str, _Known]]:
    """The model's outputs, and its neurons."""
    leaves = {name: Tensor(array) for name, array in examined.parameters.items()}
    call = call_with(leaves, examined.running, watch=True)
    outputs = examined.model(Scope(call), inputs)
    return outputs, _known(call, len(inputs))


@dataclass(frozen=True)
class _Columns:
    """What is summed over shards: weight, loss and number of the examples that count, then four numbers a unit."""

    units: dict[str, int]
    places: dict[str, int]

    @classmethod
    def of(cls, examined: Subject) -> _Columns:
        """From one pass over zeros, which any rank can do, even one without examples."""
        _, known = _watched(examined, np.zeros((2, *examined.data.input_shape), examined.dtype))
        if not known:
            raise UserError("the model makes no neurons known; a function does so with scope.neurons(z)")
        units = {path: layer.inputs[0].shape[-1] for path, layer in known.items()}
        return cls(units, {path: layer.places for path, layer in known.items()})

    @property
    def width(self) -> int:
        """How many numbers are summed."""
        return 3 + 4 * sum(self.units.values())

    def of_chunk(self, examined: Subject, chunk: Shard) -> Array:
        """The sums over some examples, in float64."""
        outputs, known = _watched(examined, chunk.inputs)
        losses = as_weighted(examined.loss(outputs, chunk.targets), chunk)
        weights = np.ones(len(chunk.inputs), examined.dtype) if chunk.weights is None else chunk.weights
        every = [z for layer in known.values() for z in layer.inputs]
        deltas = iter(pullback(losses, weights, every))
        of_example = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.float64)
        loss = np.sum(array_of(losses) * weights.astype(np.float64))
        parts = [np.array([of_example.sum(), loss, np.count_nonzero(of_example)])]
        for layer in known.values():
            parts += _of_layer(layer, [next(deltas) for _ in layer.inputs], of_example)
        return np.concatenate(parts)

    def figures(self, totals: Array, examples: int) -> Neurons:
        """The figures of each layer, from the sums over all shards."""
        (weight, loss, counted), rest = totals[:3], totals[3:]
        weight, layers = weight or 1.0, {}
        for path, units in self.units.items():
            (signed, size, activation, silent), rest = rest[: 4 * units].reshape(4, units), rest[4 * units :]
            layers[path] = LayerNeurons(
                signed / weight, size / (weight * self.places[path]), activation / weight, silent / (counted or 1.0)
            )
        return Neurons(layers, float(loss / weight), examples)


def _of_layer(layer: _Known, deltas: Sequence[Value | None], of_example: Array) -> list[Array]:
    """Of each unit the sums of delta and its size, of the mean activation, and of examples with no delta at all."""
    units = layer.inputs[0].shape[-1]
    signed, size, activation = np.zeros(units), np.zeros(units), np.zeros(units)
    silent = np.repeat(of_example[:, None] > 0, units, axis=1)
    for z, y, found in zip(layer.inputs, layer.activations, deltas, strict=True):
        rows = (len(z), -1, units)
        delta = np.zeros(z.shape).reshape(rows) if found is None else array_of(found).reshape(rows)
        signed += delta.sum(axis=(0, 1), dtype=np.float64)
        size += np.abs(delta).sum(axis=(0, 1), dtype=np.float64)
        activation += of_example @ array_of(y).reshape(rows).sum(axis=1, dtype=np.float64) / layer.places
        silent &= (delta == 0).all(axis=1)
    return [signed, size, activation, silent.sum(axis=0, dtype=np.float64)]

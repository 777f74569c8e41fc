"""The search for the operation where numbers stop being finite, in the mini-batch whose cost or gradient is not finite.

Each rank searches its own shards, and all ranks get all findings. The search runs only after a failed step, and changes
nothing that the next step depends on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, graph_nodes, pullback
from dbp.cost.mini_batch import example_losses, losses_of
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.named_arrays import all_of, as_dict, first_of
from dbp.nn import Call
from dbp.parallel import passes
from dbp.reading.shard import Shard
from dbp.types import Array

SHOWN = 5  # examples of a shard that a report names
MOST_PASSES = 64  # passes over parts of a shard, to find the examples whose own gradient is not finite
# The sources of numbers that are not finite, in the order of the search.
PARAMETERS, DATA, FORWARD, LOSS, MOMENTS, BACKWARD, SUM = range(7)

RowsOf = Callable[[int], Array]  # from the number of a shard to the rows of its examples in the data set


class Found(NamedTuple):
    """A finding: something that is not finite.

    Args:
        source: where it arose: PARAMETERS, DATA, ... or SUM.
        order: its number within the source, in the order of the forward or backward pass.
        what: what it is, in words.
        rank: the rank that found it.
        host: the host of the rank.
        shard: the number of the shard; None if it does not belong to a shard.
        examples: the number of examples of the shard.
        wrong: how many of them are not finite; 0 if that is not known.
        rows: rows of the first of them in the data set.
    """

    source: int
    order: int
    what: str
    rank: int
    host: str
    shard: int | None = None
    examples: int = 0
    wrong: int = 0
    rows: tuple[int, ...] = ()


class LayerLocation(NamedTuple):
    """The first result in a forward pass that is not finite.

    Args:
        order: its number in the order of the forward pass.
        name: the layer or operation, in words.
        values: the result.
    """

    order: int
    name: str
    values: Array


class Pass(NamedTuple):
    """The record of a forward pass over some examples.

    Args:
        leaves: parameters, by name.
        call: the call of the model, with a trace of its layers.
        outputs: outputs of the model.
        losses: the loss of each example.
    """

    leaves: dict[str, Tensor]
    call: Call
    outputs: Value
    losses: Value


def diagnose(cost: MiniBatchCost, weights: Array, rows: RowsOf) -> list[Found]:
    """Return what is not finite in a mini-batch, first things first; collective, the same on every rank.

    Args:
        cost: the cost of the mini-batch.
        weights: the flat weights.
        rows: returns the rows of a shard of this rank.
    """
    objective = cost.objective
    comm = objective.arena.comm
    search = NotFiniteSearch(cost, weights, rows)

    def gathered(search_one: Callable[[], list[Found]]) -> list[Found]:
        found = [one for of_rank in comm.gather(search_one()) for one in of_rank]
        return sorted(found, key=lambda one: (one.source, one.order, one.shard or 0, one.rank))

    with np.errstate(all="ignore"):
        objective.arena.fence(weights)
        found = gathered(search.at_parameters) or gathered(search.forward) or gathered(search.backward)
        if not found:
            search.add_up()
            found = gathered(search.at_sum)
    return found


def finite(value: Any) -> bool:
    """Return True if all elements are finite, of an array or of several by name."""
    if isinstance(value, Mapping):
        return all(map(finite, value.values()))
    array = array_of(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


class NotFiniteSearch:
    """One rank's search in its shards of a mini-batch, source by source; all but the first source are collective."""

    def __init__(self, cost: MiniBatchCost, weights: Array, rows: RowsOf):
        objective = cost.objective
        self._cost, self._objective, self._weights, self._rows = cost, objective, weights, rows
        self._parameters = objective.layout.views(weights)
        self._shards = [shard for shard in cost.batch if shard.count]
        self._rank, self._host = objective.arena.comm.rank, socket.gethostname()
        self._sums: Array = np.zeros(0, bool)  # for each element of the summed gradient, whether it is finite
        self._wrong_rows: list[str] = []  # tables of which the summed gradient is not finite

    # --- source by source -------------------------------------------------------------------------------

    def at_parameters(self) -> list[Found]:
        """Return findings in the weights, which an earlier step has spoiled, or which were given like that."""
        weights = self._objective.with_frozen(self._parameters)
        wrong = {name: int(np.count_nonzero(~np.isfinite(w))) for name, w in weights.items()}
        texts = {name: f"{n:,} of {weights[name].size:,} numbers of {name}" for name, n in wrong.items() if n}
        return [self._found(PARAMETERS, order, f"the weights: {text}") for order, text in enumerate(texts.values())]

    def forward(self) -> list[Found]:
        """Return for each shard findings in its data, or else in the first outputs, losses or moments; collective."""

        def search(shard: Shard) -> list[Found]:
            in_outputs = self._in_outputs(shard)  # in any case, as other shards may wait for this one in a layer
            return self._in_data(shard) or in_outputs

        return self._in_all(search)

    def _in_all(self, search: Callable[[Shard], list[Found]]) -> list[Found]:
        """Return what a search finds in all shards of this rank; collective."""

        def found(number: int) -> list[Found]:
            return [one for shard in self._shards if shard.number == number for one in search(shard)]

        return [
            one for _, of_shard in passes(self._objective.shards, found, self._objective.allreduce) for one in of_shard
        ]

    def _in_data(self, shard: Shard) -> list[Found]:
        found = []
        roles = {"inputs": shard.inputs, "targets": shard.targets, "weights": shard.example_weights}
        columns = {f"{role} {name}".strip(): c for role, given in roles.items() for name, c in as_dict(given).items()}
        for order, (name, column) in enumerate(columns.items()):
            if column is not None and not finite(column):
                what = f"the {name} in the data, as {column.dtype}"
                found.append(self._found(DATA, order, what, shard, _positions(column)))
        return found

    def _in_outputs(self, shard: Shard) -> list[Found]:
        passed = self._pass(shard)
        if finite(passed.losses):
            return self._in_moments(passed, shard)
        loss = LayerLocation(0, f"the loss {self._objective.loss.kind}, of finite outputs", array_of(passed.losses))
        location = first_location(passed)
        order, name, values = location or loss
        positions = _positions(values) if values.ndim and len(values) == shard.count else []
        return [self._found(FORWARD if location else LOSS, order, name, shard, positions)]

    def _in_moments(self, passed: Pass, shard: Shard) -> list[Found]:
        running, observed = self._objective.running, passed.call.observed
        wrong = [path for path, moments in running.items() if not finite(moments.sums(observed.get(path)))]
        what = "the mean or variance of the inputs of layer {}"
        return [self._found(MOMENTS, n, what.format(path.rstrip("/")), shard) for n, path in enumerate(wrong)]

    def backward(self) -> list[Found]:
        """Return for each shard the first gradient that is not finite though all losses are; collective."""
        names = list(self._parameters)

        def search(shard: Shard) -> list[Found]:
            name = self._parameter(shard)
            if name is None:
                return []
            # Where layers normalize over the whole mini-batch, no example has a gradient of its own.
            alone = self._alone(shard) if self._objective.allreduce is None else []
            return [
                self._found(BACKWARD, -names.index(name), f"the gradient of {name}, of a finite cost", shard, alone)
            ]

        return self._in_all(search)

    def add_up(self) -> None:
        """Compute the gradient once more, to find what is not finite in the sum alone; collective."""
        evaluation, arena = self._cost.value_and_gradient(self._weights), self._objective.arena.dense
        self._sums = np.ones(arena.size, bool)
        for part in arena.owned:
            self._sums[part] = np.isfinite(evaluation.gradient[part])
        self._wrong_rows = [rows.name for rows in evaluation.rows if not finite(rows.values)]

    def at_sum(self) -> list[Found]:
        """Return findings in the sum of gradients that are finite in each shard."""
        views = self._objective.layout.dense.views(self._sums)
        wrong = [name for name, view in views.items() if not view.all()] + self._wrong_rows
        text = "the gradient of {}, summed over the shards, each of which is finite"
        return [self._found(SUM, order, text.format(name)) for order, name in enumerate(wrong)]

    # --- passes -----------------------------------------------------------------------------------------

    def _found(
        self, source: int, order: int, what: str, shard: Shard | None = None, positions: Sequence[int] = ()
    ) -> Found:
        if shard is None:
            return Found(source, order, what, self._rank, self._host)
        rows = self._rows(shard.number)[list(positions[:SHOWN])].tolist() if len(positions) else []
        where = self._rank, self._host, shard.number, shard.count
        return Found(source, order, what, *where, len(positions), tuple(rows))

    def _pass(self, shard: Shard) -> Pass:
        objective = self._objective
        leaves = {name: Tensor(array) for name, array in self._parameters.items()}
        call = objective.call(leaves, shard, self._cost.draw(shard))
        call.trace = []
        outputs = objective.outputs(call, shard)
        losses = losses_of(objective.loss, outputs, shard, call.mixture)
        wrong = (output for output in all_of(outputs) if not finite(output))  # of several, the first counts
        return Pass(leaves, call, next(wrong, first_of(outputs)), example_losses(losses))

    def _parameter(self, shard: Shard) -> str | None:
        """Return the first parameter in the backward pass whose gradient is not finite; None if there is none."""
        passed = self._pass(shard)
        if type(passed.losses) is not Tensor:
            return None
        cotangent = None if self._objective.joint else shard.example_weights
        if cotangent is None:
            cotangent = np.ones(shard.count, self._objective.dtype)
        gradients = pullback(passed.losses, cotangent, list(passed.leaves.values()))
        wrong = [name for name, g in zip(passed.leaves, gradients, strict=True) if g is not None and not finite(g)]
        return wrong[-1] if wrong else None

    def _alone(self, shard: Shard) -> list[int]:
        """Return the positions of the first examples whose own gradient is not finite, found by halving."""
        found: list[int] = []
        waiting = [np.arange(shard.count)]
        for _ in range(MOST_PASSES):
            if not waiting or len(found) == SHOWN:
                break
            which = waiting.pop()
            if self._parameter(shard.rows(which)) is None:
                continue
            if len(which) == 1:
                found.append(int(which[0]))
            else:
                waiting += reversed(np.array_split(which, 2))
        return found


def _positions(values: Array) -> list[int]:
    """Return the examples, along the first axis, whose elements are not all finite."""
    return np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)).tolist()


def first_location(passed: Pass) -> LayerLocation | None:
    """Return the first result of a forward pass that is not finite while its inputs are; None if it is the loss.

    It is the output of a layer. In a user's own function it is the result of an operation, described by the parameter
    that was used last before it.
    """
    trace = sorted(passed.call.trace or [], key=lambda layer: layer.ended)
    nodes = graph_nodes(passed.losses) if type(passed.losses) is Tensor else []
    for number, layer in enumerate(trace):
        if not finite(layer.outputs):
            inside = [node for node in nodes if layer.began < node.created < layer.ended]
            wrong = [x for node in inside for x in _wrong_inputs(node) if x.created < layer.began]
            if wrong:  # it was so before the layer began
                return _operation(wrong[0], passed, nodes)
            wrong_one = next(output for output in all_of(layer.outputs) if not finite(output))
            return LayerLocation(number, f"the outputs of layer {layer.path}", array_of(wrong_one))
    if type(passed.outputs) is Tensor and not finite(passed.outputs):
        return _operation(passed.outputs, passed, nodes)
    return None


def _wrong_inputs(node: Tensor) -> list[Tensor]:
    """Return the inputs of a node that are results and not finite, those with NaN first."""
    wrong = [x for x in node.inputs if type(x) is Tensor and x.primitive is not None and not finite(x)]
    return sorted(wrong, key=lambda x: not np.isnan(x.value).any())


def _operation(node: Tensor, passed: Pass, nodes: Sequence[Tensor]) -> LayerLocation:
    """Return the first operation, on the way to a node, whose result is not finite."""
    while wrong := _wrong_inputs(node):
        node = wrong[0]
    names = {leaf.created: name for name, leaf in passed.leaves.items()}
    before = [n for n in nodes if n.created <= node.created]
    used = [names[x.created] for n in before for x in n.inputs if type(x) is Tensor and x.created in names]
    assert node.primitive is not None
    after = f", after the parameter {used[-1]}" if used else ""
    order = len(passed.call.trace or ()) + len(before)
    return LayerLocation(order, f"the result of {node.primitive.name}{after}", node.value)

"""Where numbers stop being finite: the mini-batch whose cost or gradient is not is gone through once more.

Each rank looks at its own shards, and what all have found is known to each. Nothing here runs in a step that goes well,
and nothing here changes what the next step finds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, graph_nodes, pullback
from dbp.cost.mini_batch import Shard, as_weighted
from dbp.cost.objective import BatchCost
from dbp.nn import Call, Scope, call_with
from dbp.types import Array

SHOWN = 5  # examples of a shard that are named
MOST_PASSES = 64  # over parts of a shard, to find the examples whose own gradient is not finite
PARAMETERS, DATA, FORWARD, LOSS, MOMENTS, BACKWARD, SUM = range(7)  # in the order in which they are found

RowsOf = Callable[[int], Array]  # where the examples of a shard, by its number, lie in the data set


class Found(NamedTuple):
    """Something that is not finite.

    Args:
        stage: at which it was found.
        place: within the stage, in the order of the pass that came to it.
        what: it is, for users.
        rank: that has found it.
        host: of the rank.
        shard: in which; None if this has nothing to do with shards.
        examples: how many the shard has.
        wrong: how many of them are concerned; 0 if that is not known.
        rows: where the first of them lie in the data set.
    """

    stage: int
    place: int
    what: str
    rank: int
    host: str
    shard: int | None = None
    examples: int = 0
    wrong: int = 0
    rows: tuple[int, ...] = ()


class Place(NamedTuple):
    """Where in the model numbers stop being finite, in the order of the forward pass, and what they are there."""

    order: int
    name: str
    values: Array


class Pass(NamedTuple):
    """What a forward pass over some examples has recorded."""

    leaves: dict[str, Tensor]
    call: Call
    outputs: Value
    losses: Value


def diagnose(cost: BatchCost, weights: Array, rows: RowsOf) -> list[Found]:
    """What is not finite in the current mini-batch at these weights, the first first; collective, the same everywhere.

    Args:
        cost: of the mini-batch.
        weights: the flat weights.
        rows: where the examples of this rank's shards lie in the data set.
    """
    objective = cost.objective
    comm = objective.arena.comm
    look = Look(cost, weights, rows)

    def gathered(stage: Callable[[], list[Found]]) -> list[Found]:
        found = [one for of_rank in comm.gather(stage()) for one in of_rank]
        return sorted(found, key=lambda one: (one.stage, one.place, one.shard or 0, one.rank))

    with np.errstate(all="ignore"):
        objective.arena.fence(weights)
        found = gathered(look.at_parameters) or gathered(look.forward) or gathered(look.backward)
        if not found:
            look.add_up()
            found = gathered(look.at_sum)
    return found


def finite(value: Value) -> bool:
    """Whether all of it are numbers."""
    array = array_of(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


class Look:
    """One rank's look at its shards of a mini-batch; only add_up() is collective."""

    def __init__(self, cost: BatchCost, weights: Array, rows: RowsOf):
        objective = cost.objective
        self._cost, self._objective, self._weights, self._rows = cost, objective, weights, rows
        self._parameters = objective.layout.views(weights)
        self._shards = [shard for shard in cost.batch if len(shard.inputs)]
        self._rank, self._host = objective.arena.comm.rank, socket.gethostname()
        self._sums: Array = np.zeros(0, bool)  # whether numbers of the summed gradient are finite

    # --- stage by stage ---------------------------------------------------------------------------------

    def at_parameters(self) -> list[Found]:
        """Weights that an earlier step has made infinite or no numbers."""
        wrong = {name: int(np.count_nonzero(~np.isfinite(w))) for name, w in self._parameters.items()}
        told = {name: f"{n:,} of {self._parameters[name].size:,} numbers of {name}" for name, n in wrong.items() if n}
        return [self._found(PARAMETERS, place, f"the weights: {text}") for place, text in enumerate(told.values())]

    def forward(self) -> list[Found]:
        """Data that is not finite, or else the first outputs, losses or moments that are not."""
        return [one for shard in self._shards for one in (self._in_data(shard) or self._in_outputs(shard))]

    def _in_data(self, shard: Shard) -> list[Found]:
        found = []
        for place, name in enumerate(("inputs", "targets", "weights")):
            column = getattr(shard, name)
            if column is not None and not finite(column):
                what = f"the {name} in the data, as {column.dtype}"
                found.append(self._found(DATA, place, what, shard, _positions(column)))
        return found

    def _in_outputs(self, shard: Shard) -> list[Found]:
        passed = self._pass(shard)
        if finite(passed.losses):
            return self._in_moments(passed, shard)
        loss = Place(0, f"the loss {self._objective.loss.kind}, of finite outputs", array_of(passed.losses))
        place = first_place(passed)
        order, name, values = place or loss
        positions = _positions(values) if values.ndim and len(values) == len(shard.inputs) else []
        return [self._found(FORWARD if place else LOSS, order, name, shard, positions)]

    def _in_moments(self, passed: Pass, shard: Shard) -> list[Found]:
        running, observed = self._objective.running, passed.call.observed
        wrong = [path for path, moments in running.items() if not finite(moments.sums(observed.get(path)))]
        what = "the mean or variance of the inputs of layer {}"
        return [self._found(MOMENTS, n, what.format(path.rstrip("/")), shard) for n, path in enumerate(wrong)]

    def backward(self) -> list[Found]:
        """The first gradient, from the outputs back, that is not finite though all losses are."""
        names, found = list(self._parameters), []
        for shard in self._shards:
            name = self._parameter(shard)
            if name is not None:
                what = f"the gradient of {name}, of a finite cost"
                found.append(self._found(BACKWARD, -names.index(name), what, shard, self._alone(shard)))
        return found

    def add_up(self) -> None:
        """Take the gradient once more, to see what is not finite in the sum alone; collective."""
        gradient = self._cost.value_and_gradient(self._weights).gradient
        self._sums = np.ones(self._objective.layout.size, bool)
        for part in self._objective.arena.owned:
            self._sums[part] = np.isfinite(gradient[part])

    def at_sum(self) -> list[Found]:
        """Gradients that are finite in each shard, but not added up."""
        wrong = [name for name, view in self._objective.layout.views(self._sums).items() if not view.all()]
        text = "the gradient of {}, summed over the shards, each of which is finite"
        return [self._found(SUM, place, text.format(name)) for place, name in enumerate(wrong)]

    # --- how --------------------------------------------------------------------------------------------

    def _found(
        self, stage: int, place: int, what: str, shard: Shard | None = None, positions: Sequence[int] = ()
    ) -> Found:
        if shard is None:
            return Found(stage, place, what, self._rank, self._host)
        rows = self._rows(shard.number)[list(positions[:SHOWN])].tolist() if len(positions) else []
        where = self._rank, self._host, shard.number, len(shard.inputs)
        return Found(stage, place, what, *where, len(positions), tuple(rows))

    def _pass(self, shard: Shard) -> Pass:
        objective = self._objective
        leaves = {name: Tensor(array) for name, array in self._parameters.items()}
        call = call_with(leaves, objective.running, self._cost.draw(shard))
        call.trace = []
        outputs = objective.model(Scope(call), shard.inputs)
        return Pass(leaves, call, outputs, as_weighted(objective.loss(outputs, shard.targets), shard))

    def _parameter(self, shard: Shard) -> str | None:
        """The last one in the forward pass, and so the first in the backward pass, whose gradient is not finite."""
        passed = self._pass(shard)
        if type(passed.losses) is not Tensor:
            return None
        cotangent = np.ones(len(shard.inputs), self._objective.dtype) if shard.weights is None else shard.weights
        gradients = pullback(passed.losses, cotangent, list(passed.leaves.values()))
        wrong = [name for name, g in zip(passed.leaves, gradients, strict=True) if g is not None and not finite(g)]
        return wrong[-1] if wrong else None

    def _alone(self, shard: Shard) -> list[int]:
        """The positions of the first examples whose own gradient is not finite, found by halving."""
        found: list[int] = []
        waiting = [np.arange(len(shard.inputs))]
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
    """The examples, which the first axis counts, whose numbers are not all finite."""
    return np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)).tolist()


def first_place(passed: Pass) -> Place | None:
    """The first output of a forward pass that is not finite while what it was made of is; None if that is the loss.

    Of layers this is theirs. Of a function of the user's own it is that of an operation, told with the parameter that
    was used last before it.
    """
    trace = sorted(passed.call.trace or [], key=lambda layer: layer.ended)
    nodes = graph_nodes(passed.losses) if type(passed.losses) is Tensor else []
    for number, layer in enumerate(trace):
        if not finite(layer.outputs):
            inside = [node for node in nodes if layer.began < node.created < layer.ended]
            wrong = [x for node in inside for x in _wrong_inputs(node) if x.created < layer.began]
            if wrong:  # it was so before the layer began
                return _operation(wrong[0], passed, nodes)
            return Place(number, f"the outputs of layer {layer.path}", array_of(layer.outputs))
    if type(passed.outputs) is Tensor and not finite(passed.outputs):
        return _operation(passed.outputs, passed, nodes)
    return None


def _wrong_inputs(node: Tensor) -> list[Tensor]:
    """The results among the inputs of a node that are not finite; those with what is not a number before infinities."""
    wrong = [x for x in node.inputs if type(x) is Tensor and x.primitive is not None and not finite(x)]
    return sorted(wrong, key=lambda x: not np.isnan(x.value).any())


def _operation(node: Tensor, passed: Pass, nodes: Sequence[Tensor]) -> Place:
    """That from which on numbers are not finite, up to those of a node."""
    while wrong := _wrong_inputs(node):
        node = wrong[0]
    names = {leaf.created: name for name, leaf in passed.leaves.items()}
    before = [n for n in nodes if n.created <= node.created]
    used = [names[x.created] for n in before for x in n.inputs if type(x) is Tensor and x.created in names]
    assert node.primitive is not None
    after = f", after the parameter {used[-1]}" if used else ""
    order = len(passed.call.trace or ()) + len(before)
    return Place(order, f"the result of {node.primitive.name}{after}", node.value)

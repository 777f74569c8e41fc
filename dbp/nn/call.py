"""One call of a model: where it finds its parameters, running moments and random numbers, and what happens in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Unrecorded, Value, array_of
from dbp.errors import UserError, remedy
from dbp.named_arrays import first_of
from dbp.nn.initializers import Shape
from dbp.nn.mixture import Mixture
from dbp.nn.moments import Moments, RunningMoments, running_arrays
from dbp.random import generator
from dbp.types import Array, Arrays

ParameterLookup = Callable[[str, Shape, str], Value]  # (path, shape, initializer) -> parameter
MomentsLookup = Callable[[str, int, float], RunningMoments]  # (path, channels, decay) -> running moments
RowLookup = Callable[[str, Array, Array | None], Value | None]  # (path, numbers, mask) -> rows of a parameter
Prepared = dict[tuple[Any, ...], Any]  # what layers have computed from parameters alone, see Scope.prepared()
SumOverShards = Callable[[Array, str], Array]  # (array of this shard, name of the sum) -> its sum over all shards


class InputsCheckedError(Exception):
    """The end of a call that only checks inputs: all checks are made, or a layer needs a parameter."""


class RandomKey(NamedTuple):
    """The key of a training pass's random numbers; a shard's numbers are the same on whichever rank computes it."""

    seed: int
    step: int
    shard: int

    def generator(self, path: str, number: int) -> np.random.Generator:
        """Return the random generator of a path's request of this number, counted from 1."""
        return generator(self.seed, f"noise of {path}", number, self.step, self.shard)


class Drawn(NamedTuple):
    """An array that a layer has drawn at random.

    Args:
        array: the array.
        draw: draws it, given a random generator and nothing else that changes.
        path: of the scope that has asked for the generator.
        number: of this request of the path, counted from 1.
    """

    array: Array
    draw: Callable[[np.random.Generator], Array]
    path: str
    number: int

    def again(self, key: RandomKey) -> Array:
        """Return the array for the pass of another key."""
        return self.draw(key.generator(self.path, self.number))


@dataclass
class RowUses:
    """The uses of a parameter by some of its rows, in one call of a model.

    Args:
        sparse: whether a step of training is to change only these rows.
        count: how many uses there are.
        rows: how many rows all of them look up for an example.
    """

    sparse: bool = False
    count: int = 0
    rows: float = 0.0

    def add(self, sparse: bool, rows: float) -> None:
        """Note a use."""
        self.sparse, self.count, self.rows = self.sparse or sparse, self.count + 1, self.rows + rows


@dataclass
class LayerTrace:
    """One call of a layer: the layer, its path and its outputs.

    The tensors that the layer created have numbers (`Tensor.created`) between `began` and `ended`. `name` and `takes`
    are its name in the list of layers, where that is not the end of its path, and the names of what it takes, where
    that is not the layer before.
    """

    path: str
    layer: Any
    began: int
    ended: int = 0
    outputs: Value = None
    name: str = ""
    takes: tuple[str, ...] = ()

    def end(self, outputs: Value, pool: LayerTrace | None = None) -> None:
        """Note the outputs of the layer, and those of the pooling layer that it was fused with, if any."""
        self.ended, self.outputs = Tensor(0.0).created, outputs
        if pool is not None:
            pool.end(outputs)


@dataclass
class Call:
    """One call of a model: the source of its parameters, and the record of what happened in it.

    Args:
        parameter: returns a parameter, given its path, shape and initializer.
        running: returns running moments, given their path, channels and decay.
        random_key: of a training pass; None for evaluation, where nothing is random and running moments are applied.
        example_weights: how much each example counts, or each of its positions; None if all count alike.
        mask: which positions of the inputs hold data, (examples, *positions); None if all do. Of several inputs, it is
            that of the first one that has a mask.
        masks: the masks of several inputs by name, of those that have one.
        record_neurons: whether to fill `neurons` and `activations`.
        observed: moments of this shard, by path.
        neurons: weighted inputs of the neurons, by path, one array or tensor per use of the layer.
        activations: outputs of the neurons, likewise.
        neuron_masks: which of their positions hold data, likewise; None if all do.
        trace: if a list, it gets the trace of each layer in the order of their beginnings, outer layers first.
        generator_counts: how many random generators each path has asked for.
        drawn_arrays: if a list, it gets the arrays that layers draw by Scope.drawn().
        unrecorded: if a list, it gets the arrays that layers compute by Scope.unrecorded().
        weights_are_used: whether a layer has asked for the example weights of a call that has some.
        mixtures: how the pass has mixed its examples, one at most; empty if it has not.
        input_checks: the paths of the layers that have checked the numbers of their inputs.
        constants: the paths of the arrays that layers draw like parameters and that training never changes.
        row_uses: of each path that was asked for some of its rows alone, how, and for how many rows an example.
        rows: returns rows of a parameter, given its path, their numbers, and which of these positions hold data; None
            for one that it does not know, and if the gradient is not to be computed by rows.
        most_input_checks: ends the call by InputsCheckedError after so many of these; None in a call for outputs.
        sum_over_shards: sums over all shards of a training pass; None if there are no others.
        is_inference: whether only outputs are asked for, with parameters that are arrays, so that nothing is
            differentiated.
        prepared: what layers have computed from parameters alone; calls with the same parameters share it.
    """

    parameter: ParameterLookup
    running: MomentsLookup
    random_key: RandomKey | None = None
    example_weights: Array | None = None
    mask: Array | None = None
    record_neurons: bool = False
    observed: dict[str, Moments] = field(default_factory=dict)
    neurons: dict[str, list[Value]] = field(default_factory=dict)
    activations: dict[str, list[Value]] = field(default_factory=dict)
    neuron_masks: dict[str, list[Array | None]] = field(default_factory=dict)
    trace: list[LayerTrace] | None = None
    generator_counts: Counter[str] = field(default_factory=Counter)
    drawn_arrays: list[Drawn] | None = None
    unrecorded: list[Unrecorded] | None = None
    weights_are_used: bool = False
    mixtures: list[Mixture] = field(default_factory=list)
    input_checks: list[str] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    row_uses: dict[str, RowUses] = field(default_factory=dict)
    rows: RowLookup | None = None
    most_input_checks: int | None = None
    sum_over_shards: SumOverShards | None = None
    masks: Mapping[str, Array] = field(default_factory=dict)
    is_inference: bool = False
    prepared: Prepared = field(default_factory=dict)

    @property
    def mixture(self) -> Mixture | None:
        """Return how the pass has mixed its examples; None if it has not."""
        return self.mixtures[0] if self.mixtures else None


def masks_of(given: Arrays | None) -> dict[str, Any]:
    """Return the arguments `mask` and `masks` of a call, given the mask of its inputs, or masks by name."""
    if not isinstance(given, dict):
        return {"mask": given}
    return {"mask": first_of(given) if given else None, "masks": given}


def masks_with_fill(given: Arrays | None) -> Arrays | None:
    """Return a mask of inputs, or those of masks by name, of which some position holds no data; None if all do."""
    if isinstance(given, dict):
        return {name: mask for name, mask in given.items() if not mask.all()}
    return None if given is None or given.all() else given


def read_only(array: Array) -> Array:
    """Return a view that cannot be written: all layers that ask for a parameter share it."""
    view = array.view()
    view.flags.writeable = False
    return view


def _find(parameters: Mapping[str, Value], name: str) -> Value:
    """Return the parameter of this name; UserError, with the nearest name, if there is none."""
    if name not in parameters:
        raise UserError(f"the model needs {name!r}, which is not among its weights; {remedy(name, parameters)}")
    return parameters[name]


def _shape_error(path: str, found: Shape, shape: Shape) -> UserError:
    if len(found) == len(shape) == 2 and found[1:] == shape[1:]:
        return UserError(f"its inputs have {shape[0]} channels, but weights are for {found[0]} ({path!r} is {found})")
    return UserError(f"inputs of this shape need {path!r} of shape {shape}, but it has {found}")


def call_with(
    parameters: Mapping[str, Value],
    running: Mapping[str, RunningMoments] | None = None,
    random_key: RandomKey | None = None,
    record_neurons: bool = False,
    example_weights: Array | None = None,
    mask: Arrays | None = None,
) -> Call:
    """Return a call in which a model finds these parameters and running moments.

    Args:
        parameters: arrays or tensors by path.
        running: running moments by path; if None, they are read from `parameters`, by the names of running_arrays().
        random_key: makes the call a training pass.
        record_neurons: whether the call keeps weighted inputs and activations of all neurons.
        example_weights: of the examples, or of the positions of each; None if all count alike.
        mask: which positions of the inputs hold data, booleans (examples, *positions), or masks by name; None if all
            do.

    Raises:
        UserError: during the call, if a parameter or running moments are missing or a shape does not fit.
    """

    def look_up(path: str, shape: Shape, _initializer: str) -> Value:
        found = _find(parameters, path)
        if type(found) is Tensor and found.value.shape == shape:  # the common case of a training step comes first
            return found
        if np.shape(found) != shape:
            raise _shape_error(path, np.shape(found), shape)
        return read_only(found) if type(found) is np.ndarray else found

    def find(path: str, channels: int, decay: float) -> RunningMoments:
        if running is not None:
            if path not in running:
                raise UserError(f"the model needs the running moments of {path.rstrip('/')!r}, which are not given")
            return running[path]
        moments = RunningMoments.at_start(channels, decay, np.float64)
        for name, array in running_arrays({path: moments}).items():
            array[:] = array_of(_find(parameters, name))
        return moments

    masks = masks_of(masks_with_fill(mask))
    is_inference = random_key is None and not record_neurons and Tensor not in map(type, parameters.values())
    options = {"record_neurons": record_neurons, "is_inference": is_inference, **masks}
    return Call(look_up, find, random_key, example_weights, **options)

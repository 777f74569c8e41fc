"""The scope in which a model finds its parameters, its running moments and its random numbers, by name.

A model is any callable `model(scope, inputs) -> outputs`: a layer, or a function of the user's own that asks
`scope.parameter("weight", (inputs.shape[-1], 10))`. Asking for one name twice shares the parameter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, recompute
from dbp.errors import UserError, remedy
from dbp.nn.activations import linear
from dbp.nn.initializers import Shape
from dbp.nn.mixture import Mixture
from dbp.nn.moments import Moments, RunningMoments, running_arrays
from dbp.random import generator
from dbp.types import Array

ParameterLookup = Callable[[str, Shape, str], Value]  # (path, shape, initializer) -> parameter
MomentsLookup = Callable[[str, int, float], RunningMoments]  # (path, channels, decay) -> running moments


class RandomKey(NamedTuple):
    """The key of a training pass's random numbers; a shard's numbers are the same on whichever rank computes it."""

    seed: int
    step: int
    shard: int


@dataclass
class LayerTrace:
    """One call of a layer: the layer, its path and its outputs.

    The tensors that the layer created have numbers (`Tensor.created`) between `began` and `ended`.
    """

    path: str
    layer: Any
    began: int
    ended: int = 0
    outputs: Value = None

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
        record_neurons: whether to fill `neurons` and `activations`.
        observed: moments of this shard, by path.
        neurons: weighted inputs of the neurons, by path, one array or tensor per use of the layer.
        activations: outputs of the neurons, likewise.
        trace: if a list, it gets the trace of each layer in the order of their beginnings, outer layers first.
        drawn: how many random generators each path has asked for.
        mixtures: how the pass has mixed its examples, one at most; empty if it has not.
    """

    parameter: ParameterLookup
    running: MomentsLookup
    random_key: RandomKey | None = None
    example_weights: Array | None = None
    record_neurons: bool = False
    observed: dict[str, Moments] = field(default_factory=dict)
    neurons: dict[str, list[Value]] = field(default_factory=dict)
    activations: dict[str, list[Value]] = field(default_factory=dict)
    trace: list[LayerTrace] | None = None
    drawn: Counter[str] = field(default_factory=Counter)
    mixtures: list[Mixture] = field(default_factory=list)

    @property
    def mixture(self) -> Mixture | None:
        """Return how the pass has mixed its examples; None if it has not."""
        return self.mixtures[0] if self.mixtures else None


class Scope:
    """A node in the model's tree of names, within one call."""

    def __init__(self, call: Call, path: str = ""):
        self._call, self._path = call, path

    @property
    def training(self) -> bool:
        """Return True in a training pass, in which layers such as dropout are active."""
        return self._call.random_key is not None

    @property
    def example_weights(self) -> Array | None:
        """Return how much each example counts, (examples,), or each of its positions, (examples, *positions).

        None if all count alike, and in evaluation.
        """
        return self._call.example_weights

    def weights_of(self, x: Value) -> Array | None:
        """Return how much each position of x (examples, *positions, channels) counts, shape (examples, *positions).

        Where x has other positions than the example weights, an example counts with the mean of its weights. Where a
        reshape has made positions of the examples into rows, each row counts as its position. None if all count alike.

        Raises:
            UserError: the rows of x are no positions of the examples.
        """
        weights, shape = self.example_weights, np.shape(x)[:-1]
        if weights is None or (weights == 1).all():
            return None
        if len(weights) != shape[0]:
            weights = self._weights_of_rows(weights, shape[0])
        elif weights.shape != shape[: weights.ndim]:
            weights = _means(weights)
        return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)

    def _weights_of_rows(self, weights: Array, rows: int) -> Array:
        """Return how much each of the rows counts into which a reshape has made the positions of all examples."""
        if rows == weights.size:
            return weights.reshape(-1)
        if not len(weights) or rows % len(weights):
            raise UserError(
                f"{self._path.rstrip('/') or 'the model'}: its inputs have {rows} rows, which are no positions of the "
                f"{len(weights)} examples, so their weights cannot be told; keep the examples as the first axis"
            )
        return np.repeat(_means(weights), rows // len(weights))

    @property
    def records_neurons(self) -> bool:
        """Return True if weighted inputs are recorded, so that a layer must compute them separately."""
        return self._call.record_neurons

    def parameter(self, name: str, shape: Shape, initializer: str = "glorot_uniform") -> Value:
        """Return the parameter of this name and shape, which the named initializer fills at the start of training."""
        return self._call.parameter(self._path + name, shape, initializer)

    def inside(self, name: str) -> Scope:
        """Return the scope of a layer inside this one."""
        return Scope(self._call, f"{self._path}{name}/")

    def neurons(self, z: Value, activation: Callable[[Value], Value] = linear) -> Value:
        """Return activation(z) for the weighted inputs z (..., neurons), and record both if the call asks for it."""
        y = activation(z)
        if self._call.record_neurons:
            path = self._path.rstrip("/")
            self._call.neurons.setdefault(path, []).append(z)
            self._call.activations.setdefault(path, []).append(y)
        return y

    def trace_layer(self, layer: Any) -> LayerTrace | None:
        """Start the trace of a layer, if the call is traced; the caller ends it."""
        if self._call.trace is None:
            return None
        self._call.trace.append(LayerTrace(self._path.rstrip("/"), layer, Tensor(0.0).created))
        return self._call.trace[-1]

    def running_moments(self, channels: int, decay: float) -> RunningMoments:
        """Return the running mean and variance of this scope, each of shape (channels,)."""
        return self._call.running(self._path, channels, decay)

    def observe(self, moments: Moments) -> None:
        """Report the moments of a shard, by which the running moments are updated after the step.

        Raises:
            UserError: the scope has reported in this pass before.
        """
        if self._path in self._call.observed:
            raise UserError(f"running moments of {self._path!r} are used twice in one pass; give each use its own name")
        self._call.observed[self._path] = moments

    def mix(self, mixture: Mixture) -> None:
        """Report that the examples have been mixed, so that their losses are mixed too.

        Raises:
            UserError: they have been mixed in this pass before.
        """
        if self._call.mixtures:
            raise UserError("the examples are mixed already; a model can have one mixup layer")
        self._call.mixtures.append(mixture)

    def generator(self) -> np.random.Generator:
        """Return a random generator keyed by this scope, the step, the shard and the number of the request."""
        key = self._call.random_key
        assert key is not None, "only a training pass is random"
        self._call.drawn[self._path] += 1
        return generator(key.seed, f"noise of {self._path}", self._call.drawn[self._path], key.step, key.shard)


def _means(weights: Array) -> Array:
    """Return the mean weight of each example."""
    means: Array = weights.mean(axis=tuple(range(1, weights.ndim)))
    return means


def recomputed(model: Model, scope: Scope, x: Value) -> Value:
    """Return the model's outputs as a single node of the graph; derivatives call the model again.

    The second call finds the same parameters and random numbers, and reports nothing.
    """
    call, path = scope._call, scope._path  # noqa: SLF001
    if call.record_neurons:
        return model(scope, x)
    found: dict[str, Value] = {}
    drawn = call.drawn.copy()

    def look_up(name: str, shape: Shape, initializer: str) -> Array:
        found[name] = call.parameter(name, shape, initializer)
        return array_of(found[name])

    def again(x: Value, *values: Value) -> Value:
        given = dict(zip(found, values, strict=True))
        parameter: ParameterLookup = lambda name, _shape, _initial: given[name]  # noqa: E731
        quiet = Call(parameter, call.running, call.random_key, call.example_weights, drawn=drawn.copy())
        return model(Scope(quiet, path), x)

    output = model(Scope(replace(call, parameter=look_up), path), array_of(x))
    inputs = (x, *found.values())
    return recompute(again).node(output, inputs) if any(type(i) is Tensor for i in inputs) else output


class Model(Protocol):
    """A layer, or a function of the user's own."""

    def __call__(self, scope: Scope, x: Value, /) -> Value:
        """Return one output per example, for inputs (examples, ...)."""
        ...


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
) -> Call:
    """Return a call in which a model finds these parameters and running moments.

    Args:
        parameters: arrays or tensors by path.
        running: running moments by path; if None, they are read from `parameters`, by the names of running_arrays().
        random_key: makes the call a training pass.
        record_neurons: whether the call keeps weighted inputs and activations of all neurons.
        example_weights: of the examples, or of the positions of each; None if all count alike.

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

    return Call(look_up, find, random_key, example_weights, record_neurons)


def use(
    parameters: Mapping[str, Value],
    running: Mapping[str, RunningMoments] | None = None,
    random_key: RandomKey | None = None,
) -> Scope:
    """Return the outermost scope of call_with(...), to call a model with: model(use(parameters), inputs)."""
    return Scope(call_with(parameters, running, random_key))

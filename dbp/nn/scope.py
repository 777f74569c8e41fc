"""Where a model finds what it needs: parameters and running moments by name, random numbers of its own.

A model is any callable `model(scope, inputs) -> outputs`: a layer, or a function of one's own that asks
`scope.parameter("weight", (inputs.shape[-1], 10))`. Asking twice for one name shares the parameter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.autodiff import Array, Tensor, Value, array_of, recompute
from dbp.errors import UserError
from dbp.nn.activations import linear
from dbp.nn.initialisers import Shape, initialiser
from dbp.nn.moments import Moments, RunningMoments, named_arrays
from dbp.random import generator

Lookup = Callable[[str, Shape, str], Value]
MomentsLookup = Callable[[str, int, float], RunningMoments]


class Draw(NamedTuple):
    """Which random numbers a training pass draws: the same for a shard whichever rank computes it."""

    seed: int
    step: int
    shard: int


@dataclass
class Passed:
    """A layer that a call went through, and what it made.

    What it recorded was created after `began` and before `ended`, in the order of creation of tensors.
    """

    path: str
    layer: Any
    began: int
    ended: int = 0
    outputs: Value = None

    def end(self, outputs: Value, pool: Passed | None = None) -> None:
        """The layer is done, and with it the pooling that follows, if it was done along."""
        self.ended, self.outputs = Tensor(0.0).created, outputs
        if pool is not None:
            pool.end(outputs)


@dataclass
class Call:
    """One call of a model: where its scopes look things up, and what they report.

    Args:
        parameter: gives a parameter by path, shape and initialiser.
        running: gives running moments by path, channels and decay.
        draw: of a training pass; None where nothing is random and running moments are used as they are.
        watch: whether weighted inputs of neurons are kept in `neurons`, and what neurons make of them in `activations`.
        trace: takes note of the layers that the call goes through, of those inside of others after these, if given.
    """

    parameter: Lookup
    running: MomentsLookup
    draw: Draw | None = None
    watch: bool = False
    observed: dict[str, Moments] = field(default_factory=dict)
    neurons: dict[str, list[Value]] = field(default_factory=dict)
    activations: dict[str, list[Value]] = field(default_factory=dict)
    trace: list[Passed] | None = None
    drawn: Counter[str] = field(default_factory=Counter)


class Scope:
    """A place in the model's tree of names."""

    def __init__(self, call: Call, path: str = ""):
        self._call, self._path = call, path

    @property
    def training(self) -> bool:
        """Whether this pass is one of training, in which layers such as dropout are at work."""
        return self._call.draw is not None

    @property
    def watching(self) -> bool:
        """Whether weighted inputs are kept, so that layers must not pass them over."""
        return self._call.watch

    def parameter(self, name: str, shape: Shape, initial: str = "glorot_uniform") -> Value:
        """The parameter of that name here, of this shape, at first filled by the named initialiser."""
        return self._call.parameter(self._path + name, shape, initial)

    def inside(self, name: str) -> Scope:
        """The scope of a layer inside this one."""
        return Scope(self._call, f"{self._path}{name}/")

    def neurons(self, z: Value, activation: Callable[[Value], Value] = linear) -> Value:
        """activation(z), of the weighted inputs z of this layer's neurons (last axis); who watches is told of both."""
        y = activation(z)
        if self._call.watch:
            path = self._path.rstrip("/")
            self._call.neurons.setdefault(path, []).append(z)
            self._call.activations.setdefault(path, []).append(y)
        return y

    def begin(self, layer: Any) -> Passed | None:
        """Note, if the call is traced, that a layer begins here; who calls the layer says when it ends."""
        if self._call.trace is None:
            return None
        self._call.trace.append(Passed(self._path.rstrip("/"), layer, Tensor(0.0).created))
        return self._call.trace[-1]

    def running_moments(self, channels: int, decay: float) -> RunningMoments:
        """The running mean and variance of this place."""
        return self._call.running(self._path, channels, decay)

    def observe(self, moments: Moments) -> None:
        """Report the moments of a shard, from which the running ones follow."""
        if self._path in self._call.observed:
            raise UserError(f"running moments of {self._path!r} are used twice in one pass; give each use its own name")
        self._call.observed[self._path] = moments

    def generator(self) -> np.random.Generator:
        """Random numbers of this place, step and shard, new ones at each request."""
        assert self._call.draw is not None, "only a training pass is random"
        seed, step, shard = self._call.draw
        self._call.drawn[self._path] += 1
        return generator(seed, f"noise of {self._path}", self._call.drawn[self._path], step, shard)


def recomputed(model: Model, scope: Scope, x: Value) -> Value:
    """The model's outputs, of which the graph keeps one node: what happens inside is computed again when needed.

    The second time it finds the same parameters and random numbers, and reports nothing.
    """
    call, path = scope._call, scope._path  # noqa: SLF001
    if call.watch:
        return model(scope, x)
    found: dict[str, Value] = {}
    drawn = call.drawn.copy()

    def look_up(name: str, shape: Shape, initial: str) -> Array:
        found[name] = call.parameter(name, shape, initial)
        return array_of(found[name])

    def again(x: Value, *values: Value) -> Value:
        given = dict(zip(found, values, strict=True))
        quiet = Call(lambda name, _shape, _initial: given[name], call.running, call.draw, drawn=drawn.copy())
        return model(Scope(quiet, path), x)

    output = model(Scope(replace(call, parameter=look_up), path), array_of(x))
    inputs = (x, *found.values())
    return recompute(again).node(output, inputs) if any(type(i) is Tensor for i in inputs) else output


class Model(Protocol):
    """A layer, or a function of one's own."""

    def __call__(self, scope: Scope, x: Value, /) -> Value:
        """The outputs, one per example, for inputs whose first axis counts the examples."""
        ...


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
    """
    parameters: dict[str, Array] = {}
    running: dict[str, RunningMoments] = {}

    def make(path: str, shape: Shape, initial: str) -> Array:
        if path not in parameters:
            rng = generator(seed, f"initial weights of {path}")
            parameters[path] = initialiser(initial)(rng, shape).astype(dtype)
        elif parameters[path].shape != shape:
            raise UserError(f"parameter {path!r} is asked for as {shape} and {parameters[path].shape}")
        return parameters[path]

    def make_running(path: str, channels: int, decay: float) -> RunningMoments:
        return running.setdefault(path, RunningMoments.at_start(channels, decay, dtype))

    outputs = model(Scope(Call(make, make_running)), inputs)
    if np.shape(outputs)[:1] != (len(inputs),):
        raise UserError(
            f"a model must give one output per example, but {len(inputs)} examples gave outputs of shape "
            f"{np.shape(outputs)}"
        )
    if not parameters:
        raise UserError("the model has no parameters, so there is nothing to train; add a layer such as dense")
    return Initial(parameters, tuple(np.shape(outputs)[1:]), running)


def call_with(
    parameters: Mapping[str, Value],
    running: Mapping[str, RunningMoments] | None = None,
    draw: Draw | None = None,
    watch: bool = False,
) -> Call:
    """A call in which a model finds these parameters, arrays or tensors, and running moments, by path.

    Running moments that are not given are found among the parameters, by the names that named_arrays() gives them.
    """

    def find(path: str, channels: int, decay: float) -> RunningMoments:
        if running is not None:
            return running[path]
        moments = RunningMoments.at_start(channels, decay, np.float64)
        for name, array in named_arrays({path: moments}).items():
            array[:] = array_of(parameters[name])
        return moments

    return Call(lambda path, _shape, _initial: parameters[path], find, draw, watch)


def use(
    parameters: Mapping[str, Value], running: Mapping[str, RunningMoments] | None = None, draw: Draw | None = None
) -> Scope:
    """The scope of such a call; a training pass if it is told what to draw."""
    return Scope(call_with(parameters, running, draw))

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

from dbp.autodiff import Tensor, Value, array_of, recompute
from dbp.errors import UserError, remedy
from dbp.nn.activations import linear
from dbp.nn.initializers import Shape
from dbp.nn.moments import Moments, RunningMoments, named_arrays
from dbp.random import generator
from dbp.types import Array

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
        parameter: gives a parameter by path, shape and initializer.
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
        """The parameter of that name here, of this shape, at first filled by the named initializer."""
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


def read_only(array: Array) -> Array:
    """The same array, which its user cannot change: a parameter belongs to all who ask for it."""
    view = array.view()
    view.flags.writeable = False
    return view


def _find(parameters: Mapping[str, Value], name: str) -> Value:
    """The parameter of that name; UserError, with the nearest name, if there is none."""
    if name not in parameters:
        raise UserError(f"the model needs {name!r}, which is not among its weights; {remedy(name, parameters)}")
    return parameters[name]


def _unfit(path: str, found: Shape, shape: Shape) -> UserError:
    if len(found) == len(shape) == 2 and found[1:] == shape[1:]:
        return UserError(f"its inputs have {shape[0]} channels, but weights are for {found[0]} ({path!r} is {found})")
    return UserError(f"inputs of this shape need {path!r} of shape {shape}, but it has {found}")


def call_with(
    parameters: Mapping[str, Value],
    running: Mapping[str, RunningMoments] | None = None,
    draw: Draw | None = None,
    watch: bool = False,
) -> Call:
    """A call in which a model finds these parameters, arrays or tensors, and running moments, by path.

    Running moments that are not given are found among the parameters, by the names that named_arrays() gives them.
    """

    def look_up(path: str, shape: Shape, _initial: str) -> Value:
        found = _find(parameters, path)
        if type(found) is Tensor and found.value.shape == shape:  # in a step of training, which may be short
            return found
        if np.shape(found) != shape:
            raise _unfit(path, np.shape(found), shape)
        return read_only(found) if type(found) is np.ndarray else found

    def find(path: str, channels: int, decay: float) -> RunningMoments:
        if running is not None:
            if path not in running:
                raise UserError(f"the model needs the running moments of {path.rstrip('/')!r}, which are not given")
            return running[path]
        moments = RunningMoments.at_start(channels, decay, np.float64)
        for name, array in named_arrays({path: moments}).items():
            array[:] = array_of(_find(parameters, name))
        return moments

    return Call(look_up, find, draw, watch)


def use(
    parameters: Mapping[str, Value], running: Mapping[str, RunningMoments] | None = None, draw: Draw | None = None
) -> Scope:
    """The scope of such a call; a training pass if it is told what to draw."""
    return Scope(call_with(parameters, running, draw))

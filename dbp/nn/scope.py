"""The scope in which a model finds its parameters, its running moments and its random numbers, by name.

A model is any callable `model(scope, inputs) -> outputs`: a layer, or a function of the user's own that asks
`scope.parameter("weight", (inputs.shape[-1], 10))`. Asking for one name twice shares the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from dbp.autodiff import Tensor, Unrecorded, Value, array_of, take
from dbp.errors import UserError
from dbp.nn.activations import linear
from dbp.nn.call import Call, Drawn, InputsCheckedError, LayerTrace, RandomKey, RowUses, call_with
from dbp.nn.initializers import Shape
from dbp.nn.mixture import Mixture
from dbp.nn.moments import Moments, RunningMoments
from dbp.nn.position_weights import position_weights
from dbp.types import Array, Arrays

T = TypeVar("T")

# What a scope's mask is by default, and after a layer has not said which of its outputs count.
OF_THE_MODEL, OF_THE_LAYER, AS_OUTSIDE, NOT_SAID = object(), object(), object(), object()


class Scope:
    """A node in the model's tree of names, within one call.

    Args:
        call: the call.
        path: the path of the names.
        mask: which positions of the layer's inputs hold data, a tuple for several; by default those of the model's
            inputs.

    Attributes:
        mask: which positions of the layer's inputs hold data, (examples, *positions), of the first of several that has
            a mask; None if all do.
    """

    def __init__(self, call: Call, path: str = "", mask: Any = OF_THE_MODEL):
        self._call, self._path = call, path
        mask = call.mask if mask is OF_THE_MODEL else mask
        self._several = mask if isinstance(mask, tuple) else None
        self.mask: Array | None = next((m for m in mask if m is not None), None) if isinstance(mask, tuple) else mask
        self._mask_after: Any = NOT_SAID

    @property
    def training(self) -> bool:
        """Return True in a training pass, in which layers such as dropout are active."""
        return self._call.random_key is not None

    @property
    def masks(self) -> Any:
        """Return which positions of each of several inputs hold data.

        In a layer that takes several values this is a tuple of masks, or of None for a value without one. Elsewhere it
        is a mapping of the masks of the model's inputs by name, of those that have one.
        """
        return self._call.masks if self._several is None else self._several

    @property
    def example_weights(self) -> Array | None:
        """Return how much each example counts, (examples,), or each of its positions, (examples, *positions).

        None if all count alike, and in evaluation.
        """
        weights = self._call.example_weights
        self._call.weights_are_used |= weights is not None
        return weights

    def mask_of(self, x: Value) -> Array | None:
        """Return which positions of x (examples, *positions, ..., channels) hold data; None if all do.

        Raises:
            UserError: x has no such positions.
        """
        if self.mask is None:
            return None
        if np.ndim(x) <= self.mask.ndim or np.shape(x)[: self.mask.ndim] != self.mask.shape:
            raise UserError(
                f"takes (positions ..., channels) per example, and the mask has shape {self.mask.shape[1:]}, but its "
                f"inputs have shape {np.shape(x)[1:]}; put an embedding or a reshape layer first, which adds channels"
            )
        return self.mask

    def pass_mask(self, mask: Any) -> None:
        """Say which positions of the layer's outputs hold data; None if all do, or the outputs have no positions.

        A model with several outputs gives a dict of such by name.
        """
        self._mask_after = mask

    def mask_after(self, layer: Any) -> Any:
        """Return which positions of the outputs hold data that a layer has just returned in this scope.

        They are those that it has said with pass_mask(), or those of its inputs if it declares `keeps_positions`.

        Raises:
            UserError: it does neither.
        """
        if self.mask is None:
            return None
        if self._mask_after is not NOT_SAID:
            return self._mask_after
        if not getattr(layer, "keeps_positions", False):
            raise UserError(
                "does not take inputs with masked positions, as it does not say which of its outputs count; leave it "
                "out, or let a layer of your own declare keeps_positions = True, if each position of its outputs "
                "depends on the same position of its inputs alone, or call scope.pass_mask(mask)"
            )
        return self.mask

    def mask_of_outputs(self, model: Any) -> Any:
        """Return which positions of the outputs of the whole model hold data; None if they have none, or all do.

        A function that does not say it returns outputs without positions.
        """
        is_layer = hasattr(model, "kind")
        return self.mask_after(model) if is_layer or self._mask_after is not NOT_SAID else None

    def weights_of(self, x: Value) -> Array | None:
        """Return how much each position of x (examples, *positions, channels) counts, shape (examples, *positions).

        Where x has other positions than the example weights, an example counts with the mean of its weights. Where a
        reshape has made positions of the examples into rows, each row counts as its position. Masked positions do not
        count. None if all count alike.

        Raises:
            UserError: the rows of x are no positions of the examples.
        """
        shape, masks = np.shape(x)[:-1], (self._call.mask, *self._call.masks.values())
        weights = position_weights(self.example_weights, shape, masks)
        if (mask := self.mask_of(x)) is None:
            return weights
        valid = np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)
        return valid.astype(array_of(x).dtype) if weights is None else np.where(valid, weights, 0)

    @property
    def records_neurons(self) -> bool:
        """Return True if weighted inputs are recorded, so that a layer must compute them separately."""
        return self._call.record_neurons

    def can_prepare(self, x: Value) -> bool:
        """Return True if a layer that takes x may compute its outputs with weights that are prepared for many calls.

        Only outputs are asked for then: nothing is differentiated, trained, traced or recorded, and no position is
        masked.
        """
        call = self._call
        return call.is_inference and call.trace is None and self.mask is None and type(x) is not Tensor

    def prepared(self, make: Callable[..., T], *parameters: Value | None, maker: Hashable = None) -> T:
        """Return what a function makes of parameters of this scope, such as weights in another layout.

        It is made in the first of the calls with the same parameters, and kept for the others.

        Args:
            make: takes the parameters, and depends on nothing else but the maker.
            parameters: of this scope; None for one that a layer leaves out.
            maker: tells apart what several layers, or other settings, make of the same parameters.
        """
        kept, key = self._call.prepared, (self._path, maker, *(parameter is None for parameter in parameters))
        if key not in kept:
            kept[key] = make(*parameters)
        found: T = kept[key]
        return found

    def parameter(self, name: str, shape: Shape, initializer: str = "glorot_uniform") -> Value:
        """Return the parameter of this name and shape, which the named initializer fills at the start of training."""
        return self._call.parameter(self._path + name, shape, initializer)

    def rows(
        self,
        name: str,
        shape: Shape,
        numbers: Array,
        initializer: str = "normal",
        mask: Array | None = None,
        sparse: bool = False,
    ) -> Value:
        """Return rows (examples, ..., units) of a parameter (rows, units), whose gradient need not be an array.

        Args:
            name: of the parameter.
            shape: of the parameter.
            numbers: of the rows, (examples, ...).
            initializer: fills the parameter at the start of training.
            mask: which of the positions hold data, (examples, ...); None if all do.
            sparse: whether a step of training changes only these rows; then all uses of the parameter must be of rows.
        """
        path, look_up = self._path + name, self._call.rows
        if len(shape) != 2:
            raise UserError(
                f"{path!r} must have a shape (rows, units), as the model looks up its rows, but has {shape}"
            )
        self._call.row_uses.setdefault(path, RowUses()).add(sparse, numbers.size / max(1, len(numbers)))
        found = None if look_up is None else look_up(path, numbers, mask)
        return take(self._call.parameter(path, shape, initializer), index=numbers) if found is None else found

    def constant(self, name: str, shape: Shape, initializer: str = "normal") -> Array:
        """Return an array that is drawn and kept like a parameter of this name and shape, but that is never trained."""
        self._call.constants.add(self._path + name)
        return array_of(self._call.parameter(self._path + name, shape, initializer))

    def inside(self, name: str, mask: Any = AS_OUTSIDE) -> Scope:
        """Return the scope of a layer inside this one.

        Args:
            name: of the layer.
            mask: which positions of its inputs hold data; by default those of the inputs of this scope.
        """
        return Scope(self._call, f"{self._path}{name}/", self.mask if mask is AS_OUTSIDE else mask)

    def neurons(self, z: Value, activation: Callable[[Value], Value] = linear, mask: Any = OF_THE_LAYER) -> Value:
        """Return activation(z) for the weighted inputs z (..., neurons), and record both if the call asks for it.

        Args:
            z: the weighted inputs.
            activation: the function of them.
            mask: which positions of z hold data; by default those of the layer's inputs.
        """
        y = activation(z)
        if self._call.record_neurons:
            path = self._path.rstrip("/")
            self._call.neurons.setdefault(path, []).append(z)
            self._call.activations.setdefault(path, []).append(y)
            self._call.neuron_masks.setdefault(path, []).append(self.mask if mask is OF_THE_LAYER else mask)
        return y

    def trace_layer(self, layer: Any) -> LayerTrace | None:
        """Start the trace of a layer, if the call is traced; the caller ends it."""
        if self._call.trace is None:
            return None
        self._call.trace.append(LayerTrace(self._path.rstrip("/"), layer, Tensor(0.0).created))
        return self._call.trace[-1]

    def running_moments(self, channels: int, decay: float, over_shards: bool = False) -> RunningMoments:
        """Return the running mean and variance of this scope, each of shape (channels,).

        Args:
            channels: how many.
            decay: the fraction of them that a step keeps.
            over_shards: whether the layer calls sum_over_shards() in training.
        """
        running = self._call.running(self._path, channels, decay)
        running.over_shards = over_shards
        return running

    def sum_over_shards(self, array: Array) -> Array:
        """Return the sum of an array over all shards of the mini-batch; each shard waits here for all others."""
        total = self._call.sum_over_shards
        return array if total is None else total(array, self._path)

    def note_input_check(self) -> bool:
        """Note that the layer has checked the numbers of its inputs, before it asks for a parameter.

        Return True if the call is for such checks alone, so that the layer returns zeros in place of its outputs.

        Raises:
            InputsCheckedError: all checks of the call are made.
        """
        call = self._call
        call.input_checks.append(self._path.rstrip("/"))
        if call.most_input_checks is not None and len(call.input_checks) >= call.most_input_checks:
            raise InputsCheckedError
        return call.most_input_checks is not None

    @property
    def only_checks_inputs(self) -> bool:
        """Return True if the call is for the checks of inputs alone, which asks for no parameter."""
        return self._call.most_input_checks is not None

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
        counts = self._call.generator_counts
        counts[self._path] += 1
        return key.generator(self._path, counts[self._path])

    def drawn(self, draw: Callable[[np.random.Generator], Array]) -> Array:
        """Return an array that is drawn anew in each training pass.

        Args:
            draw: draws it, given a random generator and nothing else that changes.
        """
        array, call = draw(self.generator()), self._call
        if call.drawn_arrays is not None:
            call.drawn_arrays.append(Drawn(array, draw, self._path, call.generator_counts[self._path]))
        return array

    def unrecorded(self, function: Callable[[Array], Sequence[Array]], x: Value) -> Sequence[Array]:
        """Return what a function computes from the numbers of x alone: arrays of its own, which have no derivative."""
        arrays, call = function(array_of(x)), self._call
        if call.unrecorded is not None:
            call.unrecorded.append(Unrecorded(Tensor(0.0).created, function, x, arrays))
        return arrays


class Model(Protocol):
    """A layer, or a function of the user's own.

    For data with several inputs x is a dict of them by name; a model with several outputs returns a dict of these.
    """

    def __call__(self, scope: Scope, x: Any, /) -> Any:
        """Return one output per example, for inputs (examples, ...)."""
        ...


def use(
    parameters: Mapping[str, Value],
    running: Mapping[str, RunningMoments] | None = None,
    random_key: RandomKey | None = None,
    mask: Arrays | None = None,
) -> Scope:
    """Return the outermost scope of a call, to call a model with: model(use(parameters), inputs).

    Args:
        parameters: the parameters by name.
        running: the running moments by name; by default they are among the parameters.
        random_key: of the random numbers, which makes it a training pass; None for evaluation.
        mask: which positions of the inputs hold data, (examples, *positions), or masks by name; None if all do.
    """
    return Scope(call_with(parameters, running, random_key, mask=mask))

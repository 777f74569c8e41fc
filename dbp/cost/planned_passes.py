"""Training passes as plans: what a small model does in each step is found out once, and then only computed.

A pass is planned when examples of its shapes come a second time. The plan's first run is a trial beside the ordinary
pass, on other examples: it is used from then on if losses, outputs, moments and gradient have the same bits. What a
plan cannot do takes the ordinary way, with the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dbp.autodiff import Plan, Tensor, UnplannableError, graph_nodes
from dbp.autodiff.plan import is_small
from dbp.nn import Call, Moments, RandomKey
from dbp.reading.shard import Shard
from dbp.types import Array

MOST_PASSES = 8  # that are known at a time; examples of unequal lengths may have many more shapes
# The modules whose models, losses and metrics do the same operations whatever their numbers are.
OWN = "dbp.nn.", "dbp.metrics."


def is_fixed(part: Any) -> bool:
    """Return True if a model, losses or metrics consist of parts of dbp alone, without functions of users."""
    if isinstance(part, (str, int, float, type(None))):
        return True
    if isinstance(part, (list, tuple)):
        return all(map(is_fixed, part))
    if isinstance(part, Mapping):
        return all(map(is_fixed, part.values()))
    is_own = type(part).__module__.startswith(OWN) and dataclasses.is_dataclass(part)
    return is_own and all(is_fixed(getattr(part, field.name)) for field in dataclasses.fields(part))


def cotangent_of(shard: Shard, dtype: np.dtype[Any]) -> Array:
    """Return the factor of each loss in the loss sum of a shard of a single target: its weight."""
    weights: Array | None = shard.example_weights
    return np.ones(shard.count, dtype) if weights is None else weights


def key_of(shard: Shard) -> tuple[Any, ...] | None:
    """Return the shapes and types of a shard's arrays; None unless it has one input, one target and no mask."""
    inputs, targets, weights = shard.inputs, shard.targets, shard.example_weights
    if shard.mask is not None or type(inputs) is not np.ndarray:
        return None
    if not (inputs.flags.c_contiguous and targets.flags.c_contiguous):
        return None  # as products may have other bits for arrays with other strides
    of_weights = None if weights is None else (weights.shape, weights.dtype)
    return inputs.shape, inputs.dtype, targets.shape, targets.dtype, of_weights


class PlannedPass:
    """A plan of the pass of a shard, forward and backward.

    Args:
        call: the call of the model in the recorded pass.
        losses: of the recorded pass.
        outputs: likewise.
        leaves: the parameters.
        shard: of the recorded pass.
        constants: arrays that all passes share.

    Attributes:
        observed: the moments of the last pass, by path.

    Raises:
        UnplannableError: there can be no plan.
    """

    def __init__(
        self,
        call: Call,
        losses: Tensor,
        outputs: Tensor,
        leaves: Sequence[Tensor],
        shard: Shard,
        constants: Sequence[Array],
    ):
        self._drawn = call.drawn_arrays or []
        given = (shard.inputs, shard.targets, *(drawn.array for drawn in self._drawn))
        self._plan = plan = Plan(losses, leaves, given, constants, call.unrecorded or [])
        self.losses, self.outputs = plan.value_of(losses), plan.value_of(outputs)
        self.observed = {
            path: dataclasses.replace(m, mean=plan.value_of(m.mean), variance=plan.value_of(m.variance))
            for path, m in call.observed.items()
        }
        self._cotangent = cotangent_of(shard, losses.dtype)  # for shards without example weights

    def forward(self, shard: Shard, key: RandomKey) -> None:
        """Compute losses, outputs and moments.

        Args:
            shard: the examples.
            key: of the random numbers.
        """
        self._plan.forward((shard.inputs, shard.targets, *[drawn.again(key) for drawn in self._drawn]))

    def backward(self, shard: Shard, into: Sequence[Array], again: bool = True) -> None:
        """Write the gradient of the loss sum by each parameter, after forward(); see Plan.backward()."""
        weights: Array | None = shard.example_weights
        self._plan.backward(self._cotangent if weights is None else weights, into, again)

    def agrees(self, shard: Shard, call: Call, losses: Tensor, outputs: Tensor, gradient: Sequence[Array]) -> bool:
        """Return True if the plan computes, to the last bit, what the ordinary pass of a shard has computed."""
        assert call.random_key is not None
        found = [np.empty_like(array) for array in gradient]
        self.forward(shard, call.random_key)
        self.backward(shard, found, again=False)  # else the plan would keep a copy of the gradient
        pairs = zip(
            [self.losses, self.outputs, *_moment_arrays(self.observed), *found],
            [losses.value, outputs.value, *_moment_arrays(call.observed), *gradient],
            strict=True,
        )
        return all(np.array_equal(_bits(one), _bits(other)) for one, other in pairs)


def _bits(array: Array) -> Array:
    """Return the numbers of an array as integers, of which equal ones have equal bits: NaN is like itself."""
    return array.reshape(-1).view(f"u{array.itemsize}")


def _moment_arrays(observed: Mapping[str, Moments]) -> list[Array]:
    return [array for moments in observed.values() for array in (moments.mean, moments.variance)]


def _is_plannable(call: Call) -> bool:
    """Return True if layers have drawn nothing but arrays that a plan draws again, and have asked for no weights.

    Where example weights are all 1, or all 0, layers may do something else than for others.
    """
    return call.generator_counts.total() == len(call.drawn_arrays or ()) and not call.weights_are_used


@dataclasses.dataclass(eq=False)
class PassForm:
    """A form that passes have in common, by their weights and the shapes of their arrays, and its plan.

    Args:
        weights: the flat weights that are read.
        key: the shapes and types of a shard's arrays.
        is_known: whether an ordinary pass has had this form, so that the next one may be planned.
        planned: the plan, once it is made; on trial until it is trusted.
        is_trusted: whether the plan has passed its trial.
        is_refused: whether there can be no plan.
    """

    weights: Array
    key: tuple[Any, ...]
    is_known: bool = False
    planned: PlannedPass | None = None
    is_trusted: bool = False
    is_refused: bool = False

    @property
    def trusted(self) -> PlannedPass | None:
        """Return the plan that has passed its trial; None if there is none."""
        return self.planned if self.is_trusted else None

    @property
    def is_due(self) -> bool:
        """Return True if the next ordinary pass may be planned, for which learn() needs its graph."""
        return self.is_known and self.planned is None and not self.is_refused

    def refuse_if_large(self, losses: Any) -> bool:
        """Refuse a plan if the graph of the losses is too large for one; return True if so."""
        self.is_refused |= not is_small(node for node in graph_nodes(losses) if node.primitive is not None)
        return self.is_refused


class PlannedPasses:
    """The training passes of an objective that are planned.

    Args:
        are_possible: whether passes of the same shapes do the same operations.
        constants: arrays that all passes share, such as frozen parameters.
    """

    def __init__(self, are_possible: bool, constants: Sequence[Array] = ()):
        self.are_possible, self._constants = are_possible, constants
        self._forms: list[PassForm] = []  # the one that was used last comes first

    def form(self, weights: Array, shard: Shard) -> PassForm | None:
        """Return the form of the pass of a shard, a new one if there was none like it; None if it can have no plan."""
        key = key_of(shard) if self.are_possible else None
        if key is None:
            return None
        for number, form in enumerate(self._forms):
            if form.weights is weights and form.key == key:
                if number:
                    self._forms.insert(0, self._forms.pop(number))
                return form
        self._forms.insert(0, PassForm(weights, key))
        del self._forms[MOST_PASSES:]
        return self._forms[0]

    def learn(
        self,
        form: PassForm,
        shard: Shard,
        call: Call,
        losses: Any,
        outputs: Any,
        leaves: Sequence[Tensor],
        gradient: Sequence[Array],
    ) -> None:
        """Learn from an ordinary pass: note its form, plan it, or try its plan.

        Args:
            form: of the pass.
            shard: the examples.
            call: of the model.
            losses: of the pass.
            outputs: of the pass.
            leaves: the parameters.
            gradient: of the loss sum by each parameter.
        """
        if call.mixtures or not (type(losses) is Tensor and type(outputs) is Tensor):
            form.is_refused = True
        elif not form.is_known:
            form.is_known = True
        elif form.planned is not None:
            form.is_trusted = form.planned.agrees(shard, call, losses, outputs, gradient)
            form.is_refused = not form.is_trusted
            form.planned = form.planned if form.is_trusted else None
        elif not _is_plannable(call):
            form.is_refused = True
        elif not form.is_refused:
            try:
                form.planned = PlannedPass(call, losses, outputs, leaves, shard, self._constants)
            except UnplannableError:
                form.is_refused = True

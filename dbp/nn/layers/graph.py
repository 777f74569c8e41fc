"""Layers with names, each of which says what it takes: models of several inputs and outputs, skips and shared weights.

The layers are computed in the order in which they are given, so what a layer takes stands before it.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NoReturn

from dbp.autodiff import Value
from dbp.errors import UserError, nearest, remedy
from dbp.named_arrays import as_dict
from dbp.nn.call import InputsCheckedError
from dbp.nn.layers.folding import FoldedSteps, with_folded
from dbp.nn.layers.layer import Layer, check_layer, error_in
from dbp.nn.layers.steps import Step, numbered, with_fused
from dbp.nn.scope import Scope

INPUTS = "inputs"  # the name of the inputs of a model that has one without a name
NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Named:
    """A layer of a list, with its name and the names of what it takes.

    Args:
        layer: the layer.
        name: of the layer, which its parameters' names begin with; by default its kind and number.
        from_: the name of an earlier layer or of an input of the model, or several names for a layer that takes
            several; by default the layer before, and for the first layer the only input. A config calls it `from`.
    """

    layer: Layer
    name: str = ""
    from_: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.layer, Named):
            raise UserError(f"a layer has one name, but {self.name!r} is for one that has another: {self.layer.name!r}")
        check_layer(self.layer)
        if not isinstance(self.name, str) or (self.name and not NAME.fullmatch(self.name)):
            raise UserError(f"name must be letters, digits, _ and -, such as body_1, but is {self.name!r}")
        given = [self.from_] if isinstance(self.from_, str) else self.from_
        if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) and name for name in given):
            raise UserError(f"from must be a name or a list of names, but is {self.from_!r}")
        object.__setattr__(self, "from_", self.from_ if isinstance(self.from_, str) else tuple(given))

    @property
    def kind(self) -> str:
        """Return the kind of the layer."""
        return self.layer.kind

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the names of what the layer takes; none for what comes by default."""
        return (self.from_,) if isinstance(self.from_, str) else self.from_

    def __call__(self, scope: Scope, x: Any) -> NoReturn:  # noqa: ARG002
        """Raise UserError, as names are for lists of layers."""
        raise UserError(f"a layer with a name ({self.name!r}) belongs in a list of layers")


@dataclass(frozen=True)
class Shared:
    """An earlier layer of the same list once more, with the same parameters.

    Args:
        layer: its name.
    """

    kind: ClassVar[str] = "shared"
    layer: str

    def __call__(self, scope: Scope, x: Any) -> NoReturn:  # noqa: ARG002
        """Raise UserError, as a list of layers puts the layer itself in its place."""
        raise UserError(f"shares {self.layer!r}, and so belongs in a list of layers with that one")


@dataclass(frozen=True, init=False)
class Graph:
    """Layers that take the outputs of any earlier layers, and inputs of the model, by their names.

    Args:
        layers: the layers, each as such, or Named.
        outputs: the names of the layers whose outputs are those of the model, or a mapping of names of outputs to
            these; then the model returns a dict. By default it returns the outputs of the last layer.

    Raises:
        UserError: a name is given twice or by no layer, layers take each other in a circle, nothing takes the outputs
            of a layer, or a layer takes several values or not where its kind does not or does.
    """

    kind: ClassVar[str] = "graph"
    layers: tuple[Any, ...]
    outputs: Mapping[str, str] | None = field(hash=False)

    def __init__(self, *layers: Any, outputs: Mapping[str, str] | Sequence[str] | None = None):
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], (list, tuple)) else layers
        object.__setattr__(self, "layers", layers_of(given, "layers"))
        object.__setattr__(self, "outputs", _outputs_of(outputs))
        self._check_names()
        _ = self.steps  # raises for what layers take
        self._check_users()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the name of each layer: the one that it is given, or its kind and number among those of its kind."""
        own = (layer.name if isinstance(layer, Named) else "" for layer in self.layers)
        return tuple(name or number for name, number in zip(own, numbered(self.layers), strict=True))

    def _check_names(self) -> None:
        for name, count in Counter(self.names).items():
            if count > 1:
                raise UserError(f"{count} layers have the name {name!r}; give each a name of its own")
        if INPUTS in self.names:
            raise UserError(f"no layer can have the name {INPUTS!r}, which is that of the model's only input")
        for output, name in (self.outputs or {}).items():
            if name not in self.names:
                raise UserError(f"outputs: no layer has the name {name!r}, for output {output!r}; {self._near(name)}")

    def _near(self, name: str) -> str:
        return remedy(name, self.names)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Return one step for each layer."""
        steps: list[Step] = []
        for name, given in zip(self.names, self.layers, strict=True):
            before = steps[-1].name if steps else INPUTS
            takes = (given.takes if isinstance(given, Named) else ()) or (before,)
            layer = given.layer if isinstance(given, Named) else given
            weights = ""
            if isinstance(layer, Shared):
                shared = self._shared(name, layer, steps)
                layer, weights = shared.layer, shared.weights or shared.name
            self._check_takes(name, layer, takes)
            steps.append(Step(name, layer, takes, takes == (before,), weights))
        return tuple(steps)

    def _shared(self, name: str, layer: Shared, earlier: Sequence[Step]) -> Step:
        """Return the step of the layer that another one shares."""
        by_name = {step.name: step for step in earlier}
        if layer.layer not in by_name:
            known = f"; {remedy(layer.layer, by_name)}" if by_name else ""
            raise UserError(f"{name}: shares {layer.layer!r}, but no layer before it has this name{known}")
        return by_name[layer.layer]

    def _check_takes(self, name: str, layer: Layer, takes: tuple[str, ...]) -> None:
        """Raise UserError if a layer takes later ones, or several values where its kind takes one."""
        later = self.names[self.names.index(name) :]
        for source in takes:
            if source == name:
                raise UserError(
                    f"{name}: takes {source!r}, which is its own name; rename the layer, if that is an input, or name "
                    "a layer before it"
                )
            if source in later:
                raise UserError(
                    f"{name}: takes {source!r}, which comes after it; a layer takes the outputs of layers before it, "
                    "so that none is in a circle"
                )
        if len(takes) > 1 and not getattr(layer, "takes_several", False):
            raise UserError(
                f"{name}: takes one value, but from names {len(takes)}: {', '.join(takes)}; join them first, with a "
                "layer such as concatenate or add"
            )

    @cached_property
    def _users(self) -> Counter[str]:
        """Return how often each value is used: by layers, and as an output of the model."""
        used = Counter(source for step in self.steps for source in step.takes)
        return used + Counter(self.results.values())

    @cached_property
    def results(self) -> Mapping[str, str]:
        """Return the names of the layers that give the outputs, by the names of these."""
        return {"": self.names[-1]} if self.outputs is None else self.outputs

    def _check_users(self) -> None:
        for name in self.names:
            if self._users[name]:
                continue
            for step in self.steps:
                for source in step.takes:
                    if source not in (*self.names, INPUTS) and nearest(source, [name]):  # misspelt, and no input
                        raise UserError(f"{step.name}: {self._no_source(step, source, ())}")
            raise UserError(
                f"{name}: nothing takes its outputs; leave the layer out, name it in the from of a later one, or in "
                "the outputs of the model"
            )

    @cached_property
    def _fused(self) -> tuple[Step | FoldedSteps, ...]:
        apart = [name for name in self.names if self._users[name] > 1]
        return with_folded(with_fused(self.steps, apart), apart)

    def __call__(self, scope: Scope, x: Value | Mapping[str, Value]) -> Any:
        """Return the outputs of the last layer, or a dict of outputs by name.

        Args:
            scope: of the parameters.
            x: the inputs (examples, ...), or a dict of several by name.

        Raises:
            UserError: a layer takes an input that is not there, or an input is taken by none.
        """
        values: dict[str, Value] = as_dict(x, INPUTS)
        self._check_inputs(tuple(values))
        if len(values) == 1:
            values.setdefault(INPUTS, *values.values())
        has_mask = scope.mask is not None
        masks = {name: scope.masks.get(name) if isinstance(x, dict) else scope.mask for name in values}
        if scope.only_checks_inputs:
            return self._checked_alone(scope, values, masks)
        left = self._users.copy()
        for step in self.steps if has_mask else self._fused:
            given, mask = self._given(step, values, masks)
            values[step.output], masks[step.output] = step.apply(scope, given, mask)
            del given
            for source in step.takes:  # whose memory evaluation can use again
                left[source] -= 1
                if not left[source]:
                    del values[source]
        scope.pass_mask(self._of_results(masks) if has_mask else None)
        return self._of_results(values)

    def _checked_alone(self, scope: Scope, values: dict[str, Value], masks: dict[str, Any]) -> Any:
        """Return outputs after the checks of all inputs: a layer that needs a parameter ends only what depends on it.

        Raises:
            InputsCheckedError: an output needs a parameter.
        """
        for step in self.steps:
            if all(source in values for source in step.takes):
                with contextlib.suppress(InputsCheckedError):
                    values[step.name], masks[step.name] = step.apply(scope, *self._given(step, values, masks))
        if not all(name in values for name in self.results.values()):
            raise InputsCheckedError
        return self._of_results(values)

    def _given(
        self, step: Step | FoldedSteps, values: Mapping[str, Value], masks: Mapping[str, Any]
    ) -> tuple[Value, Any]:
        """Return what a step takes, and its mask."""
        if len(step.takes) > 1:
            return tuple(values[source] for source in step.takes), tuple(masks[source] for source in step.takes)
        (source,) = step.takes
        return values[source], masks[source]

    def _of_results(self, values: Mapping[str, Any]) -> Any:
        """Return the values of the outputs: of the only one, or a dict of them."""
        found = {output: values[name] for output, name in self.results.items()}
        return found[""] if self.outputs is None else found

    @cached_property
    def _checked(self) -> set[tuple[str, ...]]:
        """Return the names of inputs that the model has been called with."""
        return set()

    def _check_inputs(self, given: tuple[str, ...]) -> None:
        """Raise UserError unless the layers take the inputs of these names, and no others."""
        if given in self._checked:
            return
        for name in given:
            if name in self.names:
                raise UserError(f"the input {name!r} of the data and a layer have the same name; rename the layer")
        inputs = {*given, INPUTS} if len(given) == 1 else {*given}
        taken = {source for step in self.steps for source in step.takes}
        for step in self.steps:
            for source in step.takes:
                if source not in inputs and source not in self.names:
                    raise error_in(step.name, UserError(self._no_source(step, source, given)))
        for name in given:
            if name not in taken and not (len(given) == 1 and INPUTS in taken):
                raise UserError(f"no layer takes the input {name!r}; name it in a from, or leave it out of the data")
        self._checked.add(given)

    def _no_source(self, step: Step, source: str, given: tuple[str, ...]) -> str:
        """Return what is wrong with the name of a source that is neither an input nor a layer."""
        if source == INPUTS and step.follows:
            return f"takes the only input, but there are {', '.join(given)}; say which, such as from = {given[0]!r}"
        earlier = self.names[: self.names.index(step.name)]
        hint = remedy(source, [*given, *earlier])
        return f"takes {source!r}, but no input and no layer before it has this name; {hint}"


def layers_of(given: Any, name: str, empty: bool = False) -> tuple[Any, ...]:
    """Return the layers in a list; UserError for anything else.

    Args:
        given: the list.
        name: of the setting, for messages.
        empty: whether there may be none.
    """
    if not isinstance(given, (list, tuple)):
        raise UserError(f"{name} must be a list of layers, but is {given!r}")
    for layer in given:
        check_layer(layer)
    if not given and not empty:
        raise UserError("a model needs at least one layer")
    return tuple(given)


def _outputs_of(given: Any) -> dict[str, str] | None:
    """Return the layers of outputs by the names of these; UserError unless they are a list or a mapping of names."""
    if given is None:
        return None
    found = dict(given) if isinstance(given, Mapping) else None
    if isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        found = {name: name for name in given}
    if not found or not all(isinstance(name, str) and name for pair in found.items() for name in pair):
        raise UserError(
            "outputs must be a list of names of layers, or a table of such as { class = 'dense_1' }, but is "
            f"{given!r}"
        )
    return found

"""The form of a model's outputs, which targets must fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dbp.data import Examples, Scaling, positions_of, role_of, weighted_by_positions
from dbp.errors import UserError, unknown
from dbp.nn import InitialParameters, JointLoss, Loss, TargetLoss, check_targets
from dbp.text import shortened
from dbp.types import Arrays, Shape


class Prepared(NamedTuple):
    """Some examples with targets and weights as a model and its loss take them.

    Args:
        examples: of which inputs and masks are taken.
        targets: in the form that the loss takes.
        example_weights: of the targets; None if all are 1.
    """

    examples: Examples
    targets: Arrays
    example_weights: Arrays


class OutputForm(NamedTuple):
    """The loss that takes a model's outputs, and their shape.

    Args:
        loss: of the outputs.
        shape: of the outputs for one example, the longest if they have unequal lengths.
        positions: how many axes of the shape are positions of masked inputs, as many as those of the inputs.
        masked_inputs: the name of these inputs, "" for inputs without a name; None without positions.
    """

    loss: Loss
    shape: Shape
    positions: int = 0
    masked_inputs: str | None = ""

    def _weighted(self, examples: Examples) -> Examples:
        """Return examples in which targets of masked positions have weight 0."""
        if isinstance(masks := examples.mask, dict):
            kept = {name: column for name, column in examples.items() if role_of(name) != "mask"}
            mask = {"mask": masks[self.masked_inputs]} if self.masked_inputs in masks else {}
            examples = Examples({**kept, **mask})
        return weighted_by_positions(examples, self.positions)

    def check_targets(self, examples: Examples, first: int) -> None:
        """Raise UserError if targets or weights of some examples do not fit.

        Args:
            examples: the examples.
            first: row of the first of them, for the message.
        """
        weighted = self._weighted(examples)
        assert weighted.targets is not None
        shape = positions_of(self.shape, weighted.targets, weighted.mask, self.positions)
        check_targets(self.loss, weighted.targets, weighted.weights, shape, first)

    def prepared(
        self, examples: Examples, scalings: Mapping[str, Scaling], dtype: np.dtype[Any], copy: bool = True
    ) -> Prepared:
        """Return some examples with their targets and weights as the loss takes them.

        Args:
            examples: the examples, without placeholders.
            scalings: of their columns, by name.
            dtype: of the run.
            copy: whether targets must be new arrays; else they may be the given ones, for callers that do not write.
        """
        weighted = examples if examples.count_alike else self._weighted(examples)
        targets, weights, scaling = weighted.targets, weighted.weights, scalings.get("targets")
        assert targets is not None
        if scaling is not None:
            targets = scaling.apply(targets, dtype)
        shape = positions_of(self.shape, targets, weighted.mask, self.positions) if self.positions else self.shape
        weights = None if weights is None else weights.astype(dtype)
        inputs = examples if isinstance(examples.mask, dict) else weighted  # whose masks by name are all kept
        found = self.loss.prepare(targets, shape, dtype)
        in_order = found.flags.c_contiguous and found.flags.aligned  # as bits may depend on it
        if (copy or not in_order) and np.may_share_memory(found, weighted.targets):
            found = found.copy()
        return Prepared(inputs, found, weights)


class JointForm(NamedTuple):
    """The losses of several targets, and the form of the output for each.

    Args:
        loss: of all targets.
        forms: the form of the output of each, by its name.
    """

    loss: JointLoss
    forms: Mapping[str, OutputForm]

    @property
    def shape(self) -> dict[str, Shape]:
        """Return the shape of each target's output for one example."""
        return {name: form.shape for name, form in self.forms.items()}

    def check_targets(self, examples: Examples, first: int) -> None:
        """Raise UserError, which names the target, if targets or weights of some examples do not fit."""
        for name, form in self.forms.items():
            try:
                form.check_targets(examples.of_target(name, form.masked_inputs), first)
            except UserError as error:
                raise type(error)(f"target {name!r}: {error}") from None

    def prepared(
        self, examples: Examples, scalings: Mapping[str, Scaling], dtype: np.dtype[Any], copy: bool = True
    ) -> Prepared:
        """Return some examples with their targets and weights as the losses take them; see OutputForm."""
        found = {}
        for name, form in self.forms.items():
            own = scalings.get(f"targets.{name}")
            of_target = examples.of_target(name, form.masked_inputs)
            found[name] = form.prepared(of_target, {} if own is None else {"targets": own}, dtype, copy)
        weights = {name: one.example_weights for name, one in found.items() if one.example_weights is not None}
        return Prepared(examples, {name: one.targets for name, one in found.items()}, weights or None)


Form = OutputForm | JointForm


def output_form(loss: Any, initial: InitialParameters, columns: Iterable[str] | None) -> Form:
    """Return the form of the outputs of a model.

    Args:
        loss: a loss, or a JointLoss.
        initial: the model's initial parameters, which have the shapes of its outputs.
        columns: the names of the columns of the data; None if its targets are not known, as of data to predict for.

    Raises:
        UserError: loss, outputs and targets do not go together.
    """
    if columns is not None:
        loss = loss_for(loss, columns)
    if not isinstance(loss, JointLoss):
        if isinstance(initial.output_shape, Mapping):
            raise UserError(
                f"the model returns outputs by name ({shortened([*initial.output_shape])}), but the loss is "
                f"{loss.kind} alone; name the targets, such as data.targets = {{ energy = ... }}, and give each a loss"
            )
        return OutputForm(loss, initial.output_shape, initial.positions_kept, initial.masked_inputs)
    if not isinstance(initial.output_shape, Mapping):
        if len(loss.parts) > 1:
            raise UserError(
                f"the model returns one array, but there are the targets {shortened([*loss.parts])}; return a "
                "dictionary with an output for each of them"
            )
        form = OutputForm(
            loss.loss_of(*loss.parts), initial.output_shape, initial.positions_kept, initial.masked_inputs
        )
        return JointForm(loss, dict.fromkeys(loss.parts, form))
    for name in loss.parts:
        if name not in initial.output_shape:
            raise unknown("output of the model for the target", name, initial.output_shape)
    forms = {
        name: OutputForm(
            loss.loss_of(name), initial.output_shape[name], initial.positions_kept[name], initial.masked_inputs[name]
        )
        for name in loss.parts
    }
    return JointForm(loss, forms)


def loss_for(loss: Any, columns: Iterable[str]) -> Any:
    """Return a loss for the targets of a data set: a JointLoss if they have names.

    Args:
        loss: a loss, or a JointLoss.
        columns: the names of the columns of the data set.

    Raises:
        UserError: a target has no loss, or a loss no target.
    """
    targets = [name.removeprefix("targets.") for name in columns if role_of(name) == "targets"]
    if targets == ["targets"] or not targets:
        if isinstance(loss, JointLoss):
            raise UserError(
                f"loss is for the targets {shortened([*loss.parts])}, but the targets of the data have no names; name "
                f"them, such as data.targets = {{ {next(iter(loss.parts))} = ... }}"
            )
        return loss
    if not isinstance(loss, JointLoss):
        if len(targets) > 1:
            each = ", ".join(f"{name} = ..." for name in targets)
            raise UserError(
                f"loss must have a loss for each of the targets {shortened(targets)}, but is {loss.kind}; set it to "
                f"{{ {each} }}"
            )
        return JointLoss({targets[0]: TargetLoss(loss)})
    for name in loss.parts:
        if name not in targets:
            raise unknown("target of the loss", name, targets)
    if missing := [name for name in targets if name not in loss.parts]:
        raise UserError(f"loss has none for the target{'s' * (len(missing) > 1)} {shortened(missing)}; add it")
    return JointLoss({name: loss.parts[name] for name in targets})  # in the order of the data

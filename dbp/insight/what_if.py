"""Show how the cost changes with some weights: as its derivatives predict, and as it really does."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.blas import blas_threads
from dbp.cost.objective_curvature import evaluation_curvature
from dbp.data import Meaning, Numbers
from dbp.errors import UserError, unknown
from dbp.insight.on_trained import trained_on
from dbp.nn import Loss
from dbp.parallel import abort_on_error, agree, world
from dbp.text import count_text, is_digits, table
from dbp.trained.evaluator import Evaluator, evaluator_of
from dbp.trained.trained_model import TrainedModel
from dbp.types import Array

EXACT = np.dtype(np.float64)  # in float32 a small change of the cost would be lost in rounding
CHANGE = re.compile(r"(?P<name>[^\[\]=]+)(\[(?P<index>[^\[\]=]*)\])?\s*=(?P<value>.*)")
SHOWN_WEIGHTS = 20  # changed weights that are listed in the text


@dataclass(frozen=True)
class WhatIf:
    """A change d of the weights, and the changes of the cost that belong to it.

    Args:
        changes: name with index, value now and new value of each changed weight.
        cost: the cost now.
        first: predicted change of first order: gradient . d.
        second: predicted change of second order: d^T Hessian d / 2.
        real: cost at the new weights less the cost now.
        examples: number of examples of the data.
    """

    changes: tuple[tuple[str, float, float], ...]
    cost: float
    first: float
    second: float
    real: float
    examples: int

    def __str__(self) -> str:
        if not self.changes:
            return "nothing changes: the weights have these values already"
        rows = [["weight", "now", "new"]]
        rows += [[name, f"{now:.8g}", f"{new:.8g}"] for name, now, new in self.changes[:SHOWN_WEIGHTS]]
        if len(self.changes) > SHOWN_WEIGHTS:
            rows.append([f"and {len(self.changes) - SHOWN_WEIGHTS:,} more", "", ""])
        costs = [["", "change", "cost"], ["now", "", f"{self.cost:.10g}"]]
        predicted = {"first order": self.first, "first and second order": self.first + self.second}
        for name, change in (predicted | {"real": self.real}).items():
            costs.append([name, f"{change:+.6e}", f"{self.cost + change:.10g}"])
        return "\n".join(
            [
                *table(rows, left=(0,)),
                "",
                *table(costs, left=(0,)),
                "",
                f"Cost over {count_text(self.examples, 'example')}, in float64. "
                "d: the change of all these weights together.",
                "First order: gradient . d; second order: d^T Hessian d / 2. The rest of the",
                "real change comes from higher orders, and from kinks such as ReLU's that d",
                "crosses.",
            ]
        )


@functools.singledispatch
def what_if(
    model: Any,
    loss: Loss | str,
    weights: Mapping[str, Array],
    changed: Mapping[str, Array],
    data: Any,
    shards: int | None = None,
    meaning: Meaning | None = None,
) -> WhatIf:
    """Return how the cost over some data changes with the weights; collective.

    Of a trained model: what_if(trained, changed, data), with data as its evaluate() takes it.

    Args:
        model: a model, or a list of layers.
        loss: a loss, or its name.
        weights: weights by name, such as those of dbp.fit's result or of a checkpoint.
        changed: new values of some parameters: arrays of the same shapes, by name.
        data: an HDF5 file, a data set, a Data whose `train` is meant, or (inputs, targets) or with weights.
        shards: number of parts of the data, on which the bits of sums depend; by default the number of ranks.
        meaning: of the training data, as dbp.fit's result has it, with mean and deviation if it was standardized.

    Raises:
        UserError: model, weights and data do not fit together, or `changed` names no parameter.
        NotFiniteError: the cost is not finite with the weights as they are.
    """
    comm = world()
    with abort_on_error(comm), blas_threads(1):
        return what_if_of(evaluator_of(model, loss, weights, data, comm, shards, EXACT, meaning), changed)


@what_if.register
def _(model: TrainedModel, changed: Mapping[str, Array], data: Any, *, scale: Numbers | None = None) -> WhatIf:
    """Return how the cost over some data changes with the weights of a trained model; collective.

    Args:
        model: the trained model.
        changed: new values of some parameters: arrays of the same shapes, by name.
        data: as its evaluate() takes it.
        scale: likewise.
    """
    with trained_on(model, data, scale, EXACT) as evaluator:
        return what_if_of(evaluator, changed)


def what_if_of(evaluator: Evaluator, changed: Mapping[str, Array]) -> WhatIf:
    """Return how the cost over an evaluator's data changes with the weights of its model; collective."""
    parameters = evaluator.trained.parameters
    new = agree(evaluator.comm, _new_parameters, parameters, changed)
    objective, chunks = evaluator.objective(), evaluator.loader.chunks
    now, then = (objective.layout.flatten(arrays, EXACT) for arrays in (parameters, new))
    curvature, d = evaluation_curvature(objective, now, chunks), then - now
    with np.errstate(over="ignore", invalid="ignore"):  # a number that is not finite is shown as such
        cost = objective.evaluate(now, chunks).cost
        evaluator.check_cost(cost)
        first = float(d @ curvature.gradient())
        second = float(d @ curvature.hessian_product(d)) / 2
        real = objective.evaluate(then, chunks).cost - cost
    return WhatIf(_changed_weights(parameters, new), cost, first, second, real, len(evaluator.trained.data))


def _new_parameters(parameters: Mapping[str, Array], changed: Mapping[str, Array]) -> dict[str, Array]:
    for name, array in changed.items():
        _check_name(name, parameters)
        if np.shape(array) != parameters[name].shape:
            raise UserError(f"{name} has shape {parameters[name].shape}, but its new values have {np.shape(array)}")
    return {name: np.asarray(changed.get(name, array), EXACT) for name, array in parameters.items()}


def _check_name(name: str, parameters: Mapping[str, Array]) -> None:
    if name not in parameters:
        raise unknown("parameter", name, parameters)


def _changed_weights(parameters: Mapping[str, Array], new: Mapping[str, Array]) -> tuple[tuple[str, float, float], ...]:
    """Return name with index, value now and new value of each weight that changes."""
    return tuple(
        (f"{name}[{','.join(map(str, index))}]", float(array[index]), float(new[name][index]))
        for name, array in parameters.items()
        for index in map(tuple, np.argwhere(array != new[name]))
    )


# --- changes as text --------------------------------------------------------------------------------


def parse_changes(words: Sequence[str], parameters: Mapping[str, Array]) -> dict[str, Array]:
    """Return new values of parameters from words such as dense_1/weight[3,17]=+0.01.

    Args:
        words: the changes, applied in this order. A number with a sign is added, one without is the new value.
        parameters: the values of all parameters now.

    Raises:
        UserError: there is no such parameter or index.
    """
    changed: dict[str, Array] = {}
    for word in words:
        match = CHANGE.fullmatch(word.strip())
        if match is None:
            raise UserError(
                f"--what-if takes LAYER/PARAMETER[INDEX]=NUMBER, such as dense_1/bias[0]=+0.01, but is {word!r}"
            )
        name = match["name"].strip()
        _check_name(name, parameters)
        array = changed.setdefault(name, np.array(parameters[name], EXACT))
        index = _index(name, match["index"], array.shape)
        text = match["value"].strip()
        value = _number(word, text)
        array[index] = array[index] + value if text[0] in "+-" else value
    return changed


def _index(name: str, text: str | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if len(words) != len(shape) or not all(is_digits(word) for word in words):
        example = ",".join(["0"] * len(shape))
        raise UserError(f"{name} has shape {shape}, so an index is like [{example}], but is [{text or ''}]")
    index = tuple(map(int, words))
    if any(i >= n for i, n in zip(index, shape, strict=True)):
        last = ",".join(str(n - 1) for n in shape)
        raise UserError(f"{name} has shape {shape}, so indices go up to [{last}], but one is [{text}]")
    return index


def _number(word: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(f"--what-if {word}: {text!r} is not a number; write +0.01 for a change or 0.5 for a new value")
    return value


def what_if_from_words(evaluator: Evaluator, words: Sequence[str]) -> WhatIf:
    """Return how the cost over an evaluator's data changes with weights, as parse_changes takes them; collective."""
    return what_if_of(evaluator, agree(evaluator.comm, parse_changes, words, evaluator.trained.parameters))

"""What a model does in a training step that the user should know before the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dbp.config.settings import Settings
from dbp.errors import UserError
from dbp.nn import InitialParameters, Loss, TrainingTrial, losses_by_target
from dbp.reading.order import Batches
from dbp.text import count_text, shortened

FEW_NUMBERS = 16  # per channel, below which the moments of a shard are mostly noise


def model_warnings(loss: Any, trial: TrainingTrial, shards: int, batches: Batches) -> list[str]:
    """Return warnings about a model: an activation that the loss contains already, and moments of few numbers.

    Args:
        loss: of the run, or the losses of several targets.
        trial: what a training pass has shown of the model.
        shards: parts of a mini-batch.
        batches: the mini-batches of an epoch.

    Raises:
        UserError: a layer would normalize by the moments of a single number.
    """
    named = losses_by_target(loss)
    endings = trial.ending if isinstance(trial.ending, Mapping) else dict.fromkeys(named, trial.ending)
    warnings = [_logits_warning(name, one, endings[name]) for name, one in named.items()]
    warnings = [warning for warning in warnings if warning]
    where, remedy = f" in {count_text(shards, 'shard')}", 'fewer shards, a larger batch_size, or statistics = "batch"'
    warnings += _few_numbers(trial.numbers, _Parts("a shard", shards, where, remedy), batches)
    return warnings + _few_numbers(trial.batch_numbers, _Parts("a mini-batch", 1, "", "a larger batch_size"), batches)


def _logits_warning(name: str, loss: Loss, ending: str) -> str:
    """Return a warning if a model's output ends with an activation that the loss applies itself; else "".

    Args:
        name: of the output; "" for one without a name.
        loss: of the output.
        ending: "softmax" or "sigmoid" if the output ends with this function, else "".
    """
    applied, output = getattr(loss, "applies", ""), f"output {name!r} of the model" if name else "model"
    if not (ending and applied):
        return ""
    return (
        f"the {output} ends with {ending}, but {loss.kind} takes its outputs for logits and applies {applied} itself; "
        f"leave {ending} out, as predict returns probabilities anyway"
    )


def check_standardized(settings: Settings, initial: InitialParameters) -> None:
    """Raise UserError if inputs are standardized of which a layer takes whole numbers only."""
    if initial.input_checks and "inputs" in settings.data.standardized_roles:
        raise UserError(
            f"{initial.input_checks[0]}: takes whole numbers, but data.standardize makes others of the inputs; "
            'set it to "targets", or to a list of columns without it, such as ["inputs.meta"], or leave it out'
        )


class _Parts(NamedTuple):
    """The parts of a mini-batch that are normalized together.

    Args:
        name: of one, in words.
        parts: how many there are.
        where: what a message says after a number of examples.
        remedy: what gives them more numbers.
    """

    name: str
    parts: int
    where: str
    remedy: str


def _few_numbers(numbers: dict[str, float], parts: _Parts, batches: Batches) -> list[str]:
    """Return a warning if a part has few numbers per channel; UserError if a full mini-batch has a part of one."""
    if not numbers:
        return []
    least = min(numbers.values())
    layers = shortened([path.rstrip("/") for path, count in numbers.items() if count == least])
    examples = [len(batches.positions(step)) for step in (0, batches.steps - 1)]
    full, last = (round(least * _least_examples(count, parts.parts)) for count in examples)
    few = f"the moments of {parts.name} are of only"
    if full <= 1:
        raise UserError(
            f"{layers}: with batch_size {batches.batch_size}{parts.where} {parts.name} has 1 number per channel, which "
            f"normalizing makes 0, so that no layer before it learns; take {parts.remedy}"
        )
    if full < FEW_NUMBERS:
        return [
            f"{layers}: with batch_size {batches.batch_size}{parts.where} {few} {count_text(full, 'number')} per "
            f"channel, fewer than {FEW_NUMBERS}; take {parts.remedy} for better ones"
        ]
    if last < FEW_NUMBERS:
        return [
            f"{layers}: the last mini-batch of an epoch has {examples[1]} of {batches.batch_size} examples"
            f"{parts.where}, so that {few} {count_text(last, 'number')} per channel; another batch_size may leave more"
        ]
    return []


def _least_examples(count: int, shards: int) -> int:
    """Return the number of examples of the smallest shard of a mini-batch that has any."""
    return max(1, count // shards)

"""Weights of a model as the state_dict of PyTorch's modules: their names, and their order of axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dbp import nn
from dbp.exchange.pytorch import IGNORED, rules_of
from dbp.exchange.pytorch_rules import same
from dbp.nn.rename import renamed
from dbp.types import Array, Shapes


def state_dict_of(
    model: nn.Model,
    weights: Mapping[str, Array],
    initial: nn.InitialParameters,
    input_shape: Shapes,
    steps: int = 0,
    rename: Mapping[str, str] | None = None,
    channels: str | None = None,
) -> dict[str, Array]:
    """Return weights as PyTorch's modules of the same layers have them, by name; the inverse of an import.

    Args:
        model: the model.
        weights: its parameters and running moments by name.
        initial: its initial parameters, for their shapes.
        input_shape: shape of one example, or shapes by name.
        steps: of the training, which BatchNorm counts.
        rename: new names by the names of dbp's layers, or by their leading parts.
        channels: where PyTorch has the channels when it flattens, "first" or "last", if the layers do not tell.

    Raises:
        UserError: the order of elements in PyTorch cannot be derived for some layer, or a new name fits nothing.
    """
    rules = rules_of(model, initial, input_shape, channels)
    parts: dict[str, list[Array]] = {}
    for name in [*(name for name in rules if name in weights), *(name for name in weights if name not in rules)]:
        rule = rules.get(name, same(name))
        for theirs, part in zip(rule.names, rule.back(weights[name]), strict=True):
            parts.setdefault(theirs, []).append(part)
    found = {name: np.concatenate(several) if len(several) > 1 else several[0] for name, several in parts.items()}
    counters = [name.rpartition("/")[0] for name in found if name.endswith("/running_var")]
    found |= {f"{path}/{IGNORED}": np.array(steps, np.int64) for path in counters}
    return {new.replace("/", "."): found[old] for new, old in renamed(found, rename or {}).items()}

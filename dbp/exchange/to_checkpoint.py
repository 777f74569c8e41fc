"""Import weights of other programs as a checkpoint of the model in a config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.checkpoint import StoredCheckpoint, write
from dbp.config.from_table import read_settings
from dbp.config.settings import AUTO_THREADS, Settings
from dbp.data import meaning_text
from dbp.errors import UserError, unknown
from dbp.exchange.files import Weights, open_weights
from dbp.exchange.inputs import input_shape_of, meaning_of_training
from dbp.exchange.pytorch import CHANNELS, IGNORED, rules_of
from dbp.exchange.pytorch_rules import Rule, same
from dbp.files import must_be_free, remove_left
from dbp.log import now
from dbp.named_arrays import zeros_of
from dbp.nn import initial_parameters, running_arrays
from dbp.nn.rename import renamed, rules_in
from dbp.run.fitted_metrics import default_metrics
from dbp.run.progress import Progress
from dbp.run.provenance import versions
from dbp.run.stored_settings import stored_config
from dbp.text import count_text, shortened
from dbp.types import Array, Shapes

ORIGINS = ("dbp", "pytorch")


def import_weights(
    weights: Path,
    config: Path,
    out: Path,
    changes: Sequence[str] = (),
    origin: str = "dbp",
    renames: Sequence[str] = (),
    input_shape: Shapes | None = None,
    overwrite: bool = False,
    channels: str | None = None,
    partial: bool = False,
) -> str:
    """Write a checkpoint with the weights, for eval, predict or the start of a run; return a line about it.

    Args:
        weights: a .safetensors or .npz file.
        config: the config of the model that the weights are for.
        out: file of the checkpoint.
        changes: texts KEY=VALUE that change the config.
        origin: "dbp", or "pytorch" for the names and the order of axes of a state_dict.
        renames: texts OLD=NEW, see renamed().
        input_shape: shape of one example, or shapes by name; by default that of the training data.
        overwrite: whether a file of that name may be replaced.
        channels: where PyTorch has the channels when it flattens, "first" or "last", if the layers do not tell.
        partial: take the weights that the model has too, in the same shape, and draw its others from its seed.

    Raises:
        UserError: weights and model do not fit together, or a file is missing or damaged.
        StorageError: a file cannot be read or written.
    """
    if origin not in ORIGINS:
        raise unknown("origin of weights", origin, ORIGINS)
    if channels is not None and channels not in CHANNELS:
        raise unknown("position of channels", channels, CHANNELS)
    if channels is not None and origin != "pytorch":
        raise UserError(
            f"channels is for weights from PyTorch, but is {channels!r} with weights from {origin}; drop it"
        )
    must_be_free(out, overwrite, (weights, config))
    remove_left(out)
    settings = read_settings(config, list(changes))
    found = open_weights(weights)
    named = _Names(origin, channels, rules_in(renames), input_shape, partial)
    arrays, drawn, left = _arrays(settings, found, named, f"weights {weights}")
    write(out, _checkpoint(settings, arrays, str(weights)), overwrite)
    numbers = count_text(sum(array.size for name, array in arrays.items() if name not in drawn), "number")
    lines = [f"{out}: {numbers} from {weights} in {settings.dtype}"]
    lines += [f"drawn from the seed: {shortened([*drawn.values()])}"] if drawn else []
    lines += [f"left out of {weights}: {shortened(left)}"] if left else []
    return "\n".join(lines)


class _Names(NamedTuple):
    """How the weights of a file are named, and whether all must fit; see import_weights()."""

    origin: str
    channels: str | None
    rename: Mapping[str, str]
    input_shape: Shapes | None
    partial: bool


def _arrays(
    settings: Settings, weights: Weights, named: _Names, source: str
) -> tuple[dict[str, Array], dict[str, str], list[str]]:
    """Return the arrays of the model with imported values, a line for each that is drawn, and names that are left out.

    Raises:
        UserError: weights and model do not fit, with all that does not.
    """
    shape, dtype = input_shape_of(settings.data, named.input_shape), settings.numpy_dtype
    initial = initial_parameters(settings.model, zeros_of(shape, 2, dtype), settings.seed, dtype)
    needed = {name: np.empty(shape, dtype) for name, shape in initial.shapes.items()} | running_arrays(initial.running)
    old_names = renamed(weights.names, named.rename)
    rules: Mapping[str, Rule] = {}
    if named.origin == "pytorch":
        rules = rules_of(settings.model, initial, shape, named.channels)
        old_names = {name.replace(".", "/"): old for name, old in old_names.items() if not name.endswith(IGNORED)}
    rule_of = {name: rules.get(name, same(name)) for name in needed}
    used = dict.fromkeys(theirs for rule in rule_of.values() for theirs in rule.names)
    missing = [name for name in used if name not in old_names]
    unexpected = [old for name, old in old_names.items() if name not in used]
    misshapen = _fill(needed, rule_of, weights, old_names)
    if not named.partial:
        _must_fit(source, missing, unexpected, list(misshapen.values()))
        return needed, {}, []
    drawn = [name for name, rule in rule_of.items() if name in misshapen or not set(rule.names) <= old_names.keys()]
    if len(drawn) == len(needed):
        _must_fit(source, missing, unexpected, list(misshapen.values()))
    for name in drawn:
        if name in initial.shapes:  # running moments begin as they are
            initial.draw(name, needed[name])
    return needed, {name: misshapen.get(name, name) for name in drawn}, unexpected


def _fill(
    arrays: Mapping[str, Array], rule_of: Mapping[str, Rule], weights: Weights, old_names: Mapping[str, str]
) -> dict[str, str]:
    """Fill the arrays whose weights exist and fit; return a line for each that does not fit, by its name."""
    misshapen = {}
    most = sum(array.size for array in arrays.values())  # an array of the file need not be larger
    for name, rule in rule_of.items():
        if not all(theirs in old_names for theirs in rule.names):
            continue
        old = [old_names[theirs] for theirs in rule.names]
        shapes = [weights.shape(o) for o in old]
        made = None
        if all(math.prod(shape) <= most for shape in shapes):
            made = _made(rule, [weights.read(o) for o in old])
        if made is None or made.shape != arrays[name].shape or made.dtype.kind == "c":
            given = ", ".join(f"{o} {shape}" for o, shape in zip(old, shapes, strict=True))
            misshapen[name] = f"{given} for {name} {arrays[name].shape}"
        else:
            arrays[name][...] = made
    return misshapen


def _made(rule: Rule, arrays: list[Array]) -> Array | None:
    try:
        return rule.make(*arrays)
    except (ValueError, IndexError):
        return None


def _must_fit(source: str, missing: list[str], unexpected: list[str], misshapen: list[str]) -> None:
    wrong = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(wrong.values()):
        found = "; ".join(f"{what}: {shortened(names)}" for what, names in wrong.items() if names)
        raise UserError(
            f"{source} do not fit the config's model: {found}; change names with --rename OLD=NEW, pass --from pytorch "
            "for weights of PyTorch, give the config with which they were trained, or take what fits with --partial"
        )


def _checkpoint(settings: Settings, arrays: Mapping[str, Array], source: str) -> StoredCheckpoint:
    """Return the checkpoint of a run that has done no step."""
    if settings.threads == AUTO_THREADS:  # resolved only at the start of a run
        settings = replace(settings, threads=1)
    counted: dict[str, Any] = Progress(default_metrics(settings.loss)).to_attributes()
    return StoredCheckpoint(
        model=arrays,
        progress=counted | {"elapsed": 0.0, "shards": settings.shards or 1, "seed": settings.seed},
        provenance={**versions(), "imported": source, "written": now()},
        config=stored_config(settings),
        meaning=meaning_text(meaning_of_training(settings.data)),
    )

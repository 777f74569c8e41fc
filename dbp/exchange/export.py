"""Export the weights of a checkpoint, or its model with them, to a format of other programs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.checkpoint import StoredCheckpoint, epoch_words, files_of, find, table_of
from dbp.config.custom_objects import custom_code
from dbp.config.from_table import data_from, model_from
from dbp.config.own_code import code_at, kinds_in
from dbp.data import FLOATS, ColumnMeaning, parse_meaning
from dbp.errors import UserError, unknown
from dbp.exchange.files import WRITERS
from dbp.exchange.inputs import input_shape_of, inputs_of, meaning_in, positions_with_masks
from dbp.exchange.onnx import onnx_model
from dbp.exchange.pt_file import pt_file
from dbp.exchange.state_dict import state_dict_of
from dbp.files import must_be_free, remove_left, write_file
from dbp.named_arrays import all_of, each, zeros_of
from dbp.nn import INPUTS, Model, check_model_weights, initial_parameters
from dbp.nn.rename import rules_in
from dbp.run.snapshot import stored_input_shape
from dbp.text import count_text, is_digits
from dbp.types import Array, Shapes
from dbp.version import VERSION

ONNX, PT = ".onnx", ".pt"
DBP, PYTORCH = FORMS = ("dbp", "pytorch")
OTHER_NAME = "; choose another name or folder"


def export(
    checkpoint: Path,
    out: Path,
    overwrite: bool = False,
    input_shape: Shapes | None = None,
    scale: float | None = None,
    last: bool = False,
    to: str = DBP,
    renames: Sequence[str] = (),
    channels: str | None = None,
    code: str | None = None,
) -> str:
    """Write the weights for inference and running moments, or the model with them; return a line about the file.

    Args:
        checkpoint: a checkpoint file, or the folder of a run for its best epoch, else its last.
        out: file that ends in .safetensors or .npz for the weights by name, in .onnx for the model; with `to`
            "pytorch" also in .pt, as torch.save writes them.
        overwrite: whether a file of that name may be replaced.
        input_shape: shape of one example, or shapes by name, for ONNX and PyTorch; by default as in the training data.
        scale: factor by which the ONNX graph multiplies its inputs; by default that of the training data.
        last: whether a folder stands for the last weights of the run.
        to: "dbp", or "pytorch" for the names and the order of axes of a state_dict.
        renames: for PyTorch, texts OLD=NEW of the names of layers, see renamed().
        channels: where PyTorch has the channels when it flattens, "first" or "last", if the layers do not tell.
        code: for ONNX, the Python file, or its folder, with layers of your own that have a method onnx(scope, x).

    Raises:
        UserError: there is no such checkpoint, or its model cannot be expressed in the format.
        StorageError: the file cannot be written.
    """
    _check(out, input_shape, scale, to, bool(renames or channels))
    must_be_free(out, overwrite, files_of(checkpoint))
    with find(checkpoint, last) as opened:
        found = opened.load()
    return export_model(found, out, overwrite, input_shape, scale, to, renames, None, channels, code)


def export_model(
    checkpoint: StoredCheckpoint,
    out: Path,
    overwrite: bool = False,
    input_shape: Shapes | None = None,
    scale: float | None = None,
    to: str = DBP,
    renames: Sequence[str] = (),
    model: Model | None = None,
    channels: str | None = None,
    code: str | None = None,
) -> str:
    """Write what is in a checkpoint that has been loaded, as export() does.

    Args and errors: those of export(). With a `model` that of the checkpoint is not built from its config for ONNX.
    """
    _check(out, input_shape, scale, to, bool(renames or channels))
    if to == PYTORCH:
        content, about = _state_dict(checkpoint, out.suffix, input_shape, renames, channels)
    elif out.suffix == ONNX:
        content, about = _onnx(checkpoint, input_shape, scale, model or _model(checkpoint, code))
    else:
        content, about = _written(checkpoint, checkpoint.inference_weights(), out.suffix)
    remove_left(out)
    write_file(out, content, OTHER_NAME, overwrite)
    which = epoch_words(checkpoint.progress)
    return f"{out}: {about}{f', {which}' if which else ''}"


def _check(out: Path, input_shape: Shapes | None, scale: float | None, to: str, is_adapted: bool) -> None:
    """Raise UserError unless the ending of a file says what to write, and goes with the arguments."""
    if to not in FORMS:
        raise unknown("form of weights", to, FORMS)
    endings = (*WRITERS, PT) if to == PYTORCH else (*WRITERS, ONNX)
    if out.suffix == PT and to != PYTORCH:
        raise UserError(
            f'{out}: files that end in {PT} are for PyTorch; say so by --to pytorch, from Python by to="pytorch"'
        )
    if out.suffix not in endings:
        raise UserError(f"{out} must end in {', '.join(endings[:-1])} or {endings[-1]}, which says what to write")
    if out.suffix != ONNX and not (scale is None and (input_shape is None or to == PYTORCH)):
        raise UserError(f"the shape of an example and a scale are for ONNX, and do not go with {out.suffix}")
    if is_adapted and to != PYTORCH:
        raise UserError(
            "new names, and the position of channels, are for PyTorch; say so by --to pytorch, from Python by "
            'to="pytorch"'
        )


def _properties(checkpoint: StoredCheckpoint) -> dict[str, str]:
    """Return metadata on the origin of the file."""
    return {
        "dbp_version": VERSION,
        "config_digest": hashlib.sha256(checkpoint.config.encode()).hexdigest(),
        "meaning": checkpoint.meaning,
    }


def _written(checkpoint: StoredCheckpoint, weights: Mapping[str, Array], ending: str) -> tuple[bytes, str]:
    """Return the content of a file of weights, and what it holds in words."""
    numbers = count_text(sum(array.size for array in weights.values()), "number")
    write = pt_file if ending == PT else WRITERS[ending]
    return write(weights, _properties(checkpoint)), f"{count_text(len(weights), 'array')} of {numbers}"


def _table(checkpoint: StoredCheckpoint, what: str, remedy: str) -> dict[str, Any]:
    """Return the config of a checkpoint; raise UserError if its model is Python code, which no config names."""
    table = table_of(checkpoint.config)
    if (code := custom_code(table["model"]) or next(iter(kinds_in(table["model"])), None)) is not None:
        raise UserError(f"the checkpoint's model is, or contains, the Python code {code!r}, {what}; {remedy}")
    return table


def _state_dict(
    checkpoint: StoredCheckpoint,
    ending: str,
    input_shape: Shapes | None,
    renames: Sequence[str],
    channels: str | None,
) -> tuple[bytes, str]:
    remedy = "leave out --to pytorch for its weights under their own names"
    table = _table(checkpoint, "whose names in PyTorch are not known", remedy)
    shape = input_shape or stored_input_shape(checkpoint.progress) or input_shape_of(data_from(table), None)
    model, weights, steps = model_from(table), checkpoint.inference_weights(), int(checkpoint.progress.get("step", 0))
    initial = initial_parameters(model, zeros_of(shape, 2, np.float32), 0)
    check_model_weights(initial.shapes_of_weights, weights, f"inputs of shape {shape}")
    found = state_dict_of(model, weights, initial, shape, steps, rules_in(renames), channels)
    content, about = _written(checkpoint, found, ending)
    return content, f"a state_dict of {about}"


def _model(checkpoint: StoredCheckpoint, code: str | None) -> Model:
    """Return the model of a checkpoint for ONNX, with code of the user's if its file is given."""
    table = table_of(checkpoint.config)
    kind = next(iter(kinds_in(table["model"])), None)
    if kind is None or custom_code(table["model"]) is not None:
        remedy = "export its weights as .safetensors or .npz"
        return model_from(_table(checkpoint, "which cannot be put into ONNX", remedy))
    if code is None:
        raise UserError(
            f"the checkpoint's model contains the Python code {kind!r}; pass its file, --code FILE.py, if the layer "
            "has a method onnx(scope, x), or export its weights as .safetensors or .npz"
        )
    return model_from(table, code_at(code))


def _onnx(
    checkpoint: StoredCheckpoint, input_shape: Shapes | None, scale: float | None, of: Model
) -> tuple[bytes, str]:
    table = table_of(checkpoint.config)
    meaning = parse_meaning(checkpoint.meaning)
    data, known = data_from(table), input_shape or stored_input_shape(checkpoint.progress)
    shape, scaling = inputs_of(data, meaning, known, scale)
    targets = meaning_in(meaning, "targets") or ColumnMeaning(FLOATS)
    outputs = each(lambda what: what.standardization, targets)
    weights, properties = checkpoint.inference_weights(), _properties(checkpoint)
    model = onnx_model(of, weights, shape, scaling, properties, outputs)
    dimensions = {value.name: _dimensions(value) for value in model.graph.input}
    if known is None:
        _check_free_lengths(dimensions, positions_with_masks(data))
    count, scalings = len(model.graph.node), all_of(scaling)
    how = "scaled as in training"
    if all(one.center is None and not isinstance(one.factor, np.ndarray) for one in scalings):
        factors = {1.0 if one.factor is None else one.factor for one in scalings}
        if len(factors) == 1:
            (factor,) = factors
            how = "taken as they are" if factor == 1 else f"multiplied by {factor:g}"
    named = dimensions if isinstance(shape, Mapping) else {"": dimensions[INPUTS]}
    shapes = " and ".join(f"{name} ({', '.join(lengths)})".strip() for name, lengths in named.items())
    about = f"{count_text(count, 'operator')}, inputs of shape {shapes} that are {how}"
    return model.SerializeToString(), about


def _dimensions(value: Any) -> list[str]:
    """Return the dimensions of an input of a graph: names of those that are free, and lengths."""
    return [str(dimension.dim_param or dimension.dim_value) for dimension in value.type.tensor_type.shape.dim]


def _check_free_lengths(dimensions: Mapping[str, list[str]], positions: Mapping[str, int]) -> None:
    """Raise UserError if a graph has a fixed length along an axis of inputs of which the training data masks positions.

    Args:
        dimensions: of the inputs of the graph, by name.
        positions: number of the axes of positions with masks, by name of the input.
    """
    for name, axes in positions.items():
        if any(is_digits(length) for length in dimensions[name][1 : axes + 1]):
            raise UserError(
                "the training data has masked positions, or unequal lengths, of which ONNX knows nothing, and the "
                "model cannot be exported for any length; give the shape of the examples that the graph is for, "
                "without such positions, as in --input 28,28,1"
            )

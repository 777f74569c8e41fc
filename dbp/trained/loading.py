"""Load a trained model from a checkpoint: its settings, weights, history and what its data means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

from dbp import kernels
from dbp.checkpoint import StoredCheckpoint, find, table_of
from dbp.config.custom_objects import CUSTOM, custom_code, take_custom_metrics
from dbp.config.from_table import loss_from, settings_from
from dbp.config.own_code import code_at, kinds_in
from dbp.config.settings import Settings
from dbp.data import parse_meaning
from dbp.errors import UserError
from dbp.nn import JointLoss, Loss, TargetLoss, as_loss, as_model
from dbp.parallel import Communicator, agree, from_rank_0, ranks_of_job
from dbp.run.class_weights import with_stored_weights
from dbp.run.provenance import check_kernels
from dbp.trained.trained_model import TrainedModel
from dbp.trained.unknown_loss import UnknownLoss

# What stands in the settings for an object of the user's own that a trained model makes no use of, or that is given.
STAND_INS = {"model": {"kind": "flatten"}, "loss": "mean_squared_error", "optimizer": "adam", "schedule": "constant"}


def load(
    path: str | PathLike[str],
    *,
    last: bool = False,
    code: str | PathLike[str] | None = None,
    model: Any = None,
    loss: Loss | str | None = None,
) -> TrainedModel:
    """Return the trained model in a checkpoint; all ranks of a job call it together.

    Args:
        path: a checkpoint, or the folder of a run.
        last: whether a folder stands for the last weights of the run rather than for those of its best epoch, if it
            keeps them.
        code: the Python file, or its folder, with layers, losses and metrics of your own that the run's config names,
            such as "my_layers.py" for "my_layers:Gated"; it is imported.
        model: the model, or a list of layers, if it is Python code of your own, of which a checkpoint keeps the name.
        loss: likewise the loss, which only evaluate() needs.

    Raises:
        UserError: there is no such checkpoint, or it needs Python code that is not given.
        DataError: it is damaged, or the only ones that there are.
    """
    comm = ranks_of_job()
    check_same_kernels(comm)
    found, file = from_rank_0(comm, read_model, Path(path), last)
    settings = agree(comm, settings_of, found, None if code is None else str(code), model, loss)
    return agree(comm, _trained, settings, found, file)


def check_same_kernels(comm: Communicator) -> None:
    """Raise UserError if ranks compute with different kernels, as bits would depend on their number; collective."""
    check_kernels(comm, kernels.NATIVE, remedies="or start one rank alone")


def read_model(path: Path, last: bool = False) -> tuple[StoredCheckpoint, Path]:
    """Return what the use of a model needs of a checkpoint, small enough to be sent to all ranks, and its file.

    Args:
        path: a checkpoint, or the folder of a run.
        last: whether a folder stands for the last weights of the run rather than for those of its best epoch.
    """
    with find(path, last) as opened:
        found = opened.load()
        return replace(found, model=found.inference_weights(), best={}, optimizer={}), opened.path


def settings_of(
    checkpoint: StoredCheckpoint, code: str | None = None, model: Any = None, loss: Loss | str | None = None
) -> Settings:
    """Return the settings of the run that wrote a checkpoint, to use its model; its loss has the run's class weights.

    Args:
        checkpoint: the checkpoint.
        code: the Python file, or its folder, with code of the user's that the config names; None to import none.
        model: in place of a model that is Python code.
        loss: in place of a loss that is Python code.

    Raises:
        UserError: the model is Python code that is not given. Without a loss that is Python code it predicts, but
            cannot be evaluated.
    """
    table, own = table_of(checkpoint.config), {"model": model, "loss": loss}
    take_custom_metrics(table)
    table.pop("weights", None)  # those that the run began with are not needed, and their file may be gone
    if loss is None and custom_code(given := table.get("loss")) is not None:
        loss = own["loss"] = _with_stand_ins(given or {})
    for name, stand_in in STAND_INS.items():
        custom = custom_code(table.get(name))
        if custom is not None and name in own and own[name] is None:
            raise UserError(
                f"the checkpoint's {name} is, or contains, the Python code {custom!r}, which a config cannot name; use "
                f"it from Python, dbp.load(path, {name}=...), or train with code that the script imports from a file"
            )
        is_not_used = name not in own and bool(kinds_in(table.get(name)))
        if custom is not None or own.get(name) is not None or is_not_used:
            table[name] = stand_in
    settings = settings_from(table, None if code is None else code_at(code))
    return replace(
        settings,
        model=settings.model if model is None else as_model(model),
        loss=with_stored_weights(settings.loss if loss is None else as_loss(loss), checkpoint.progress),
    )


def _with_stand_ins(given: Mapping[str, Any]) -> Any:
    """Return the stand-in for a loss that is Python code, or the losses of targets with such in their places."""
    if (code := given.get(CUSTOM)) is not None:
        return UnknownLoss(str(code))
    parts: dict[str, TargetLoss] = {}
    for name, table in given.items():
        if (code := custom_code(table)) is None:
            parts[name] = loss_from({name: table}).parts[name]
        else:
            parts[name] = TargetLoss(cast("Loss", UnknownLoss(code)), table.get("weight", 1.0))
    return JointLoss(parts)


def _trained(settings: Settings, found: StoredCheckpoint, file: Path) -> TrainedModel:
    return TrainedModel(
        settings,
        dict(found.model),
        {name: column.tolist() for name, column in found.history.items()},
        {},
        parse_meaning(found.meaning),
        found.progress,
        found.provenance,
        found.config,
        file,
    )

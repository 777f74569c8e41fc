"""Mean and deviation by which a run standardizes its inputs and targets, and advice where it should."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dbp.checkpoint import begins_as_checkpoint
from dbp.config.settings import Settings
from dbp.data import (
    FLOATS,
    ColumnMeaning,
    Dataset,
    Meaning,
    Scaling,
    aligned,
    data_path,
    meaning_differences,
    parse_meaning,
    scalings_of,
    without_placeholders,
)
from dbp.data.dataset import role_of
from dbp.data.meaning import INTEGERS, listed
from dbp.errors import UserError, unknown
from dbp.nn import NUMBERS, JointLoss
from dbp.parallel import Communicator, agree, from_rank_0
from dbp.reading.output_form import Form, OutputForm
from dbp.run.sources import Sources, how_to_state_scale, open_on_all_ranks, stop_check
from dbp.terminal import write_error
from dbp.text import count_text
from dbp.types import Array

MANY_ORDERS = 1e4  # ratio of the largest to the smallest column, from which on a warning says so
SAMPLE_ROWS, SAMPLE_UNITS = 16, 4  # of which numbers are looked at


@dataclass(frozen=True)
class Standardization:
    """The meaning of the training data with the mean and deviation of the columns that are standardized.

    Args:
        meaning: of the training data.
        columns: the names of those that are standardized.
        source: where their mean and deviation are from, in words.
        warnings: what the user should know of them.
    """

    meaning: Meaning
    columns: Sequence[str] = ()
    source: str = ""
    warnings: Sequence[str] = ()

    def __str__(self) -> str:
        named = " and ".join(self.columns)
        units = "; the cost is in these units, metrics and predictions in those of the data"
        return f"{named} standardized by {self.source}{units if 'targets' in self.columns else ''}"


def standardization_of(comm: Communicator, settings: Settings, sources: Sources, stored: Meaning) -> Standardization:
    """Return how a run standardizes its data: as its checkpoint says, as another run does, or by a pass; collective.

    Args:
        comm: the ranks.
        settings: of the run.
        sources: the data.
        stored: the meaning that the checkpoint from which the run resumes has kept; empty without one.

    Raises:
        UserError: the settings, the loss and the data do not fit together.
        PassStoppedError: a rank has been asked to stop.
    """
    meaning, data = sources.meaning, settings.data
    if data.standardize is None:
        advice = [*from_rank_0(comm, _advice, settings, sources.train, meaning)]
        return Standardization(meaning, warnings=advice + from_rank_0(comm, _other_moments, settings, stored, {}))
    path, train = data.standardize_from, sources.train
    roles = data.standardized_roles
    if path is not None and not stored and from_rank_0(comm, _is_data, path):
        train, roles = _reference(comm, settings, path, meaning), roles or ("inputs",)
        columns: Sequence[str] = agree(comm, _columns_of, roles, settings.loss, meaning)
        found: dict[str, ColumnMeaning] = {}
    elif path is not None:
        known = {} if stored else from_rank_0(comm, _meaning_in, path, meaning)
        found = moments_in(stored or known)
        found = {column: what for column, what in found.items() if not roles or _is_in(column, roles)}
        columns = tuple(found)
    else:
        columns = agree(comm, _columns_of, roles, settings.loss, meaning)
        found = moments_in({column: what for column, what in stored.items() if column in columns})
    _check_targets(columns, settings, meaning)
    if len(found) == len(columns):
        source = "the moments of the checkpoint" if stored else f"the moments of {path}"
        others = from_rank_0(comm, _other_moments, settings, stored, found)
        return Standardization(with_moments(meaning, found), columns, source, others)
    found, warnings = _computed(comm, train, columns, meaning)
    warnings += from_rank_0(comm, _other_moments, settings, stored, found)
    examples = count_text(len(train), "training example" if path is None else "example")
    source = f"mean and deviation of {examples}{'' if path is None else f' in {path}'}"
    return Standardization(with_moments(meaning, found), columns, source, warnings)


def _computed(
    comm: Communicator, data: Dataset, columns: Sequence[str], meaning: Meaning
) -> tuple[dict[str, ColumnMeaning], list[str]]:
    """Return the meaning of columns with mean and deviation from a pass over data, and warnings; collective."""
    from dbp.reading.moments import as_numbers, moments_of  # which no other start needs

    moments = moments_of(comm, data, columns, stop_check(comm), write_error)
    found = {
        column: meaning[column]._replace(mean=as_numbers(one.mean), deviation=as_numbers(one.deviation))
        for column, one in moments.items()
    }
    constant = {column: moments[column].is_constant for column in columns}
    warnings = [
        f"{column} are constant in {_named(meaning[column], which)}, whose deviation is left at 1"
        for column, which in constant.items()
        if which.any()
    ]
    return found, warnings


def _columns_of(roles: Sequence[str], loss: Any, meaning: Meaning) -> list[str]:
    """Return the columns of some roles that are standardized: of several targets, those that their losses let be."""
    for name in roles:
        if name not in (*meaning, "inputs", "targets"):
            raise unknown("column of data.standardize", name, meaning)
    columns = [column for column in meaning if _is_in(column, roles)]
    if not isinstance(loss, JointLoss):
        return columns
    takes_numbers = {column: getattr(loss_of(loss, column), "targets_are", "") == NUMBERS for column in columns}
    return [column for column in columns if role_of(column) != "targets" or column in roles or takes_numbers[column]]


def _is_in(column: str, roles: Sequence[str]) -> bool:
    """Return True if a column is named, or all of its role are."""
    return column in roles or role_of(column) in roles


def _is_data(path: str) -> bool:
    """Return True if a name is that of data files rather than of a run or a checkpoint."""
    file = data_path(path)
    if str(file) != str(Path(path)) or not file.exists():  # a group, data that comes with dbp, or a pattern
        return str(file) != str(Path(path)) or glob.has_magic(path)
    return file.is_file() and not begins_as_checkpoint(file)


def _reference(comm: Communicator, settings: Settings, path: str, meaning: Meaning) -> Dataset:
    """Return the data set by whose mean and deviation a run is standardized, in the order of its own; collective."""
    data = settings.data
    found = open_on_all_ranks(comm, data, path)
    assert found is not None
    remedy = partial(how_to_state_scale, data.scale is data.shift is None)
    return agree(comm, aligned, found, meaning, remedy)


def moments_in(meaning: Meaning) -> dict[str, ColumnMeaning]:
    """Return the columns of which a meaning has mean and deviation."""
    return {column: what for column, what in meaning.items() if what.mean is not None and what.deviation is not None}


def standardizations(form: Form, meaning: Meaning) -> Any:
    """Return the standardization of the targets; of several, by their names."""
    if isinstance(form, OutputForm):
        return meaning.get("targets", ColumnMeaning(FLOATS)).standardization
    return {name: meaning_of_target(meaning, name).standardization for name in form.forms}


def meaning_of_target(meaning: Meaning, name: str) -> ColumnMeaning:
    """Return the meaning of a named target."""
    return meaning.get(f"targets.{name}", ColumnMeaning(FLOATS))


def with_moments(meaning: Meaning, moments: Meaning) -> dict[str, ColumnMeaning]:
    """Return the meaning of data with the mean and deviation of some columns."""
    taken = {column: (one.mean, one.deviation) for column, one in moments.items() if column in meaning}
    changed = {column: meaning[column]._replace(mean=mean, deviation=by) for column, (mean, by) in taken.items()}
    return {**meaning, **changed}


def loss_of(loss: Any, column: str) -> Any:
    """Return the loss of a column of targets: the only loss, or that of the column's name."""
    part = loss.parts.get(column.removeprefix("targets.")) if isinstance(loss, JointLoss) else None
    return loss if part is None else part.loss


def _named(what: ColumnMeaning, which: Array) -> str:
    numbers = np.flatnonzero(which).tolist()
    return listed([what.names[number] if what.names else f"column {number}" for number in numbers])


def _check_targets(columns: Sequence[str], settings: Settings, meaning: Meaning) -> None:
    """Raise UserError if targets are standardized that are classes, or that the loss does not take for numbers."""
    targets = [column for column in columns if role_of(column) == "targets"]
    for column in targets:
        loss = loss_of(settings.loss, column)
        if getattr(loss, "targets_are", "") != NUMBERS:
            path = settings.data.standardize_from
            raise UserError(
                f"data.standardize has {column}, which the loss {loss.kind} does not take for numbers; leave it out"
                if path is None
                else f"data.standardize.from: {path} has standardized {column}, which the loss {loss.kind} does not "
                "take; name a run that has standardized inputs alone"
            )
    if any(meaning[column].classes for column in targets):
        raise UserError('data.standardize must leave out targets that are classes; set it to "inputs"')


def standardized_like(path: str) -> dict[str, ColumnMeaning]:
    """Return the columns that a run or checkpoint standardizes, with mean and deviation.

    Raises:
        UserError: there are none.
    """
    from dbp.checkpoint import find

    if _is_data(path):
        raise UserError(
            f"data.standardize.from: {path} is data, of which only a training finds mean and deviation; name the run "
            "that was trained with them"
        )
    with find(Path(path)) as found:
        columns = moments_in(parse_meaning(found.meaning))
    if not columns:
        raise UserError(f"data.standardize.from: {path} was trained without data.standardize; name another run")
    return columns


def _meaning_in(path: str, now: Meaning) -> dict[str, ColumnMeaning]:
    """Return what standardized_like() does; raise UserError unless it fits the training data."""
    found = {column: what for column, what in standardized_like(path).items() if column in now}
    if differences := meaning_differences(found, now):
        raise UserError(f"data.standardize.from: {path} does not fit the training data: {'; '.join(differences)}")
    return found


def _other_moments(settings: Settings, stored: Meaning, moments: Meaning) -> list[str]:
    """Return a warning if a run begins with the weights of a checkpoint that has another mean and deviation.

    Args:
        settings: of the run.
        stored: the meaning in the checkpoint from which it resumes; empty if it begins.
        moments: the columns that it standardizes.
    """
    if stored or settings.weights is None:
        return []
    from dbp.config.initial_weights import InitialWeights
    from dbp.run.given_weights import meaning_of

    given = InitialWeights.of(settings.weights)
    if (meaning := meaning_of(given)) is None:
        return []
    theirs = moments_in(meaning)
    pairs = ({column: (one.mean, one.deviation) for column, one in known.items()} for known in (theirs, moments))
    if len({*map(repr, pairs)}) == 1:
        return []
    how = f'set data.standardize = {{ from = "{given.path}" }}' if theirs else "leave out data.standardize"
    return [f"{given.name} were trained with another mean and deviation of the data; to keep theirs, {how}"]


def _advice(settings: Settings, train: Dataset, meaning: Meaning) -> list[str]:
    """Return warnings of inputs of very different sizes, and of large targets, as a sample of rows shows them."""
    rows = _sample(len(train), getattr(train, "borders", None))
    examples, scalings, warnings = without_placeholders(train.read(rows)), scalings_of(train), []
    for column, what in meaning.items():
        values = np.abs(scalings.get(column, Scaling()).apply(examples[column], np.float64))
        mask = examples.get("mask" + column.removeprefix("inputs")) if role_of(column) == "inputs" else None
        if mask is not None:
            values[~mask] = 0
        values = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        sizes = np.max(np.where(np.isfinite(values), values, 0), axis=0)
        if role_of(column) == "targets":
            loss = loss_of(settings.loss, column)
            if sizes.max() > MANY_ORDERS and getattr(loss, "targets_are", "") == NUMBERS:
                warnings.append(
                    f"{column} are up to {sizes.max():.2g} in size, which outputs reach after many steps only; set "
                    'data.standardize = "targets", or "both"'
                )
        elif what.kind != INTEGERS or what.scale is not None:  # other integers may be entries of an embedding
            warnings += _many_sizes(column, what, sizes)
    return warnings


def _sample(size: int, borders: Array | None) -> Array:
    """Return some rows of all, or of a few units, if rows are read in such."""
    if borders is None:
        spans = [(0, size, SAMPLE_ROWS)]
    else:
        units = np.flatnonzero(np.diff(borders))[:: -(-(len(borders) - 1) // SAMPLE_UNITS)]
        spans = [(int(borders[u]), int(borders[u + 1]), SAMPLE_ROWS // SAMPLE_UNITS) for u in units]
    rows = {row for first, stop, count in spans for row in np.linspace(first, stop - 1, count).astype(int).tolist()}
    return np.array(sorted(rows))


def _many_sizes(column: str, what: ColumnMeaning, sizes: Array) -> list[str]:
    """Return a warning if the elements of a column differ by many orders of magnitude in size."""
    least, most = int(np.argmin(np.where(sizes > 0, sizes, np.inf))), int(np.argmax(sizes))
    if not sizes[most] > MANY_ORDERS * sizes[least] > 0:
        return []
    small, large = (what.names[i] if what.names else f"column {i}" for i in (least, most))
    return [
        f"{column} range over many orders of magnitude, from {sizes[least]:.2g} ({small}) to {sizes[most]:.2g} "
        f'({large}), so that the small ones hardly count; set data.standardize = "inputs"'
    ]

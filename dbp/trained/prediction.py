"""The predictions of a trained model for rows of a data set, and their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dbp.cost.not_finite_examples import finite_rows, why_not_finite
from dbp.data import ColumnMeaning, counting_rows
from dbp.errors import DataError, NotFiniteError, UserError, unknown
from dbp.nn import on_axes_of
from dbp.parallel import Communicator, agree
from dbp.trained.model_on_data import ModelOnData
from dbp.types import Array

REFUSE, MARK = NOT_FINITE_ROWS = ("refuse", "mark")  # what predict does with rows that are not finite


class Prediction(NamedTuple):
    """The outputs for some rows.

    Args:
        first: the number of the first row.
        outputs: of the model in the units of the targets, (rows, ...); NaN in marked rows and in masked places.
        row_names: the names of the examples, if they have some, by the name of their column.
        marked: the numbers of the rows that are marked as their inputs or outputs are not finite.
    """

    first: int
    outputs: Array
    row_names: Mapping[str, Array]
    marked: Array


def predictions(trained: ModelOnData, comm: Communicator, not_finite: str = REFUSE) -> Iterator[Prediction]:
    """Yield the outputs for all rows of a data set, some at a time and in their order, on every rank; collective.

    Rows are cut into blocks that do not depend on the number of ranks, and neither do the bits.

    Args:
        trained: the model and its data set.
        comm: the ranks, each of which computes every so many-th block.
        not_finite: REFUSE or MARK rows whose inputs or outputs are not finite.

    Raises:
        DataError: a row is refused as its inputs are not finite.
        NotFiniteError: likewise as the model's outputs for finite inputs are not.
        UserError: not_finite is neither of both.
    """
    agree(comm, check_not_finite, not_finite)
    count, rows = trained.rows_at_a_time, len(trained.data)
    for start in range(0, rows, count * comm.size):
        mine = range(min(start + comm.rank * count, rows), min(start + (comm.rank + 1) * count, rows))
        found = agree(comm, prediction_of, trained, mine, not_finite)
        yield _joined([piece for piece in comm.gather(found) if piece is not None])


def _joined(pieces: Sequence[Prediction]) -> Prediction:
    """Return the predictions for consecutive blocks of rows as one."""
    if len(pieces) == 1:
        return pieces[0]
    labels = pieces[0].row_names
    return Prediction(
        pieces[0].first,
        np.concatenate([piece.outputs for piece in pieces]),
        {label: np.concatenate([piece.row_names[label] for piece in pieces]) for label in labels},
        np.concatenate([piece.marked for piece in pieces]),
    )


def check_not_finite(value: str) -> None:
    """Raise UserError unless this says what is done with rows that are not finite."""
    if value not in NOT_FINITE_ROWS:
        raise unknown("not_finite", value, NOT_FINITE_ROWS)


def prediction_of(trained: ModelOnData, rows: range, not_finite: str) -> Prediction | None:
    """Return the outputs for some rows; None for no rows.

    Args:
        trained: the model and its data set.
        rows: consecutive rows.
        not_finite: REFUSE or MARK rows whose inputs or outputs are not finite; those of weight 0 are always marked.

    Raises:
        DataError: a row is refused as its inputs are not finite.
        NotFiniteError: likewise as the model's outputs for finite inputs are not.
    """
    if not rows:
        return None
    inputs, weights, mask = trained.read(slice(rows.start, rows.stop))
    try:
        trained.example_check.check_inputs(inputs, mask, rows.start)
    except UserError as error:
        raise DataError(f"{trained.data.name}: {error}") from None
    outputs, valid = trained.outputs_and_mask(inputs, mask)
    finite_inputs = finite_rows(inputs)
    is_wrong = ~(finite_inputs & finite_rows(outputs))
    counts = is_wrong if weights is None else is_wrong & counting_rows(weights)
    if not_finite == REFUSE and len(refused := np.flatnonzero(counts)):
        one = refused[:1]
        kind = NotFiniteError if finite_inputs[one].all() else DataError
        raise kind(
            f"{trained.data.name}: example {rows.start + one[0]} has no prediction, as "
            f"{why_not_finite(inputs[one], outputs[one])}; remove it, correct its numbers or their scale, or have such "
            "examples marked: --not-finite mark, or not_finite='mark' from Python"
        )
    wrong = np.flatnonzero(is_wrong)
    if len(wrong):
        outputs = outputs.copy()
        outputs[wrong] = np.nan
    if valid is not None:
        outputs = np.where(on_axes_of(valid, outputs), outputs, np.nan)
    names = getattr(trained.data, "row_names", None)
    row_names = {} if names is None else {names.label: names.read(slice(rows.start, rows.stop))}
    return Prediction(rows.start, trained.of_targets.undo(outputs), row_names, rows.start + wrong)


def labels_of(classes: Array, names: Sequence[str]) -> Array:
    """Return the UTF-8 names of classes; empty where a class has none, such as -1 for none."""
    width = max(1, *(len(_bytes(name)) for name in names))
    table = np.array([*map(_bytes, names), b""], f"S{width}")
    return table[np.where((classes >= 0) & (classes < len(names)), classes, len(names))]


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def attributes_of(columns: Mapping[str, Array], targets: ColumnMeaning) -> dict[str, dict[str, list[str]]]:
    """Return the names of the classes, or names and units of the targets, for columns that have a number for each.

    Of two classes that share one number, it is that of the second.
    """
    names = targets.classes or targets.names
    named: dict[str, dict[str, list[str]]] = {}
    for column in ("outputs", "probabilities"):
        if names and column in columns:
            last = columns[column].shape[1:][-1:]
            of_last = names[1:] if last == (1,) and len(names) == 2 and "classes" in columns else names
            if last == (len(of_last),):
                named[column] = {"names": list(of_last)}
    if targets.units and columns.keys() == {"outputs"} and columns["outputs"].shape[1:][-1:] == (len(targets.units),):
        named.setdefault("outputs", {})["units"] = list(targets.units)
    return named


def columns_of(
    outputs: Array, predicted: Mapping[str, Array], names: Sequence[str] | None, row_names: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the columns of a file of predictions.

    Args:
        outputs: of the model.
        predicted: what the loss predicts from them.
        names: of the classes, for their labels, if they are known.
        row_names: the names of the examples, if they have some, by the name of their column.
    """
    columns = {"outputs": outputs, **predicted}
    if names and "classes" in predicted:
        columns["labels"] = labels_of(predicted["classes"], names)
    return {**columns, **row_names}

"""The predictions of a trained model for rows of a data set, and their labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from dbp.cost.not_finite_examples import finite_rows, why_not_finite
from dbp.data import FLOATS, ColumnMeaning, Meaning
from dbp.errors import DataError, NotFiniteError, UserError, unknown
from dbp.named_arrays import as_dict, each
from dbp.nn import JointLoss, on_axes_of
from dbp.parallel import Communicator, SharedRows, agree, agree_and_gather, parts, reuse_freed_memory
from dbp.run.standardization import meaning_of_target
from dbp.trained.model_on_data import ModelOnData
from dbp.types import Array, Arrays, Shape

OUTPUTS = "outputs"  # what a model predicts, as files name it
ROUND_BYTES = 1 << 21  # of outputs that a rank predicts between two exchanges, or at least one block of rows
BLOCKS_MULTIPLE = 4  # several blocks are a multiple of it, so that 2 or 4 ranks have equal work
REFUSE, MARK = NOT_FINITE_ROWS = ("refuse", "mark")  # what predict does with rows that are not finite


class Prediction(NamedTuple):
    """The outputs for some rows.

    Args:
        first: the number of the first row.
        outputs: of the model in the units of the targets, (rows, ...); NaN in marked rows and in masked positions. Of
            several outputs, by name.
        row_names: the names of the examples, if they have some, by the name of their column.
        marked: the numbers of the rows that are marked as their inputs or outputs are not finite.
    """

    first: int
    outputs: Arrays
    row_names: Mapping[str, Array]
    marked: Array


def predictions(trained: ModelOnData, comm: Communicator, not_finite: str = REFUSE) -> Iterator[Prediction]:
    """Yield the outputs for all rows of a data set, some at a time and in their order, on every rank; collective.

    Rows are cut into blocks that do not depend on the number of ranks, and neither do the bits. The outputs are valid
    until the next are asked for.

    Args:
        trained: the model and its data set.
        comm: the ranks, each of which computes some blocks of a round.
        not_finite: REFUSE or MARK rows whose inputs or outputs are not finite.

    Raises:
        DataError: a row is refused as its inputs are not finite.
        NotFiniteError: likewise as the model's outputs for finite inputs are not.
        UserError: not_finite is neither of both.
    """
    agree(comm, check_not_finite, not_finite)
    reuse_freed_memory()
    blocks = blocks_of(len(trained.data), trained.rows_at_a_time)
    if len(blocks) == comm.size == 1:  # without an exchange, which would take longer than a small prediction
        yield prediction_of(trained, blocks[0], not_finite)
        return
    trained, longest = trained.for_a_pass(), max(map(len, blocks), default=1)
    numbers = sum(map(math.prod, as_dict(trained.output_shape).values()))
    of_round = comm.size * max(1, ROUND_BYTES // (longest * numbers * trained.dtype.itemsize))
    exchange = _Exchange(comm, of_round * longest)
    for first in range(0, len(blocks), of_round):
        now = blocks[first : first + of_round]
        of_ranks = [now[own.start : own.stop] for own in (parts(len(now), comm.size, r) for r in range(comm.size))]
        mine, everyones = agree_and_gather(comm, _predictions_of, trained, of_ranks[comm.rank], not_finite)
        yield exchange.joined(mine, everyones, [sum(map(len, of_rank)) for of_rank in of_ranks])


def blocks_of(rows: int, most: int) -> list[range]:
    """Return the numbers of rows in blocks of about the same size, whose number is a multiple of BLOCKS_MULTIPLE or 1.

    Args:
        rows: the number of all rows.
        most: of the rows of a block.
    """
    count = -(-rows // most)
    if count > 1:
        count = min(rows, -(-count // BLOCKS_MULTIPLE) * BLOCKS_MULTIPLE)
    return [parts(rows, count, number) for number in range(count)]


class _BlockFacts(NamedTuple):
    """What all ranks must know of the blocks that one of them has predicted, besides the outputs.

    Args:
        blocks: the number of the first row, the names and the marked rows of each block.
        forms: by name of an output, the shape of a row and the type; empty without a block.
    """

    blocks: list[tuple[int, Mapping[str, Array], Array]]
    forms: dict[str, tuple[Shape, np.dtype[Any]]]


def _predictions_of(
    trained: ModelOnData, blocks: Sequence[range], not_finite: str
) -> tuple[list[dict[str, Array]], _BlockFacts]:
    """Return the outputs for some blocks of rows by name, and the facts that others need; see prediction_of().

    The outputs have the name "" if they are the only ones.
    """
    found = [prediction_of(trained, rows, not_finite) for rows in blocks]
    outputs = [as_dict(piece.outputs) for piece in found]
    forms = {name: (array.shape[1:], array.dtype) for name, array in outputs[0].items()} if outputs else {}
    return outputs, _BlockFacts([(piece.first, piece.row_names, piece.marked) for piece in found], forms)


class _Exchange:
    """The exchange of what ranks have predicted, round after round.

    Args:
        comm: the ranks.
        rows: the most that all ranks predict in one round.
    """

    def __init__(self, comm: Communicator, rows: int):
        self._comm, self._rows = comm, rows
        self._outputs: dict[str, SharedRows] = {}  # by the name of the output

    def joined(
        self, mine: Sequence[Mapping[str, Array]], everyones: Sequence[_BlockFacts], counts: Sequence[int]
    ) -> Prediction:
        """Return the predictions of all ranks as one, whose outputs are valid until the next call; collective.

        Args:
            mine: the outputs of this rank, for consecutive blocks of rows.
            everyones: the facts of each rank's blocks.
            counts: how many rows each rank has.
        """
        found = [of_rank for of_rank in everyones if of_rank.blocks]
        if not self._outputs:
            forms = found[0].forms.items()
            self._outputs = {
                name: SharedRows(self._comm, self._rows, shape, dtype, name) for name, (shape, dtype) in forms
            }
        joined = {n: rows.all([of_block[n] for of_block in mine], counts) for n, rows in self._outputs.items()}
        firsts, names, marked = zip(*(block for of_rank in found for block in of_rank.blocks), strict=True)
        row_names = {label: np.concatenate([of_block[label] for of_block in names]) for label in names[0]}
        return Prediction(firsts[0], joined.get("", joined), row_names, np.concatenate(marked))


def check_not_finite(value: str) -> None:
    """Raise UserError unless this says what is done with rows that are not finite."""
    if value not in NOT_FINITE_ROWS:
        raise unknown("not_finite", value, NOT_FINITE_ROWS)


def prediction_of(trained: ModelOnData, rows: range, not_finite: str) -> Prediction:
    """Return the outputs for some rows.

    Args:
        trained: the model and its data set.
        rows: consecutive rows.
        not_finite: REFUSE or MARK rows whose inputs or outputs are not finite; those of weight 0 are always marked.

    Raises:
        DataError: a row is refused as its inputs are not finite.
        NotFiniteError: likewise as the model's outputs for finite inputs are not.
    """
    inputs, counted, mask = trained.read(slice(rows.start, rows.stop))
    try:
        trained.example_check.check_inputs(inputs, mask, rows.start)
    except UserError as error:
        raise DataError(f"{trained.data.name}: {error}") from None
    outputs, valid = trained.outputs_and_mask(inputs, mask)
    finite_inputs = _all_finite(inputs)
    is_wrong = ~(finite_inputs & _all_finite(outputs))
    counts = is_wrong if counted is None else is_wrong & counted
    if not_finite == REFUSE and len(refused := np.flatnonzero(counts)):
        one = refused[:1]
        kind = NotFiniteError if finite_inputs[one].all() else DataError
        raise kind(
            f"{trained.data.name}: example {rows.start + one[0]} has no prediction, as "
            f"{why_not_finite(each(itemgetter(one), inputs), each(itemgetter(one), outputs))}; remove it, correct its "
            "numbers or their scale, or have such examples marked: --not-finite mark, or not_finite='mark' from Python"
        )
    wrong = np.flatnonzero(is_wrong)
    if isinstance(outputs, Mapping):
        outputs = {name: _marked(output, wrong, valid[name]) for name, output in outputs.items()}
    else:
        outputs = _marked(outputs, wrong, valid)
    names = getattr(trained.data, "row_names", None)
    row_names = {} if names is None else {names.label: names.read(slice(rows.start, rows.stop))}
    return Prediction(rows.start, trained.in_units(outputs), row_names, rows.start + wrong)


def _all_finite(arrays: Arrays) -> Array:
    """Return for each row whether all its numbers are finite, in all arrays if there are several by name."""
    several = arrays.values() if isinstance(arrays, Mapping) else [arrays]
    return np.asarray(np.logical_and.reduce([finite_rows(array) for array in several]))


def _marked(outputs: Array, rows: Array, valid: Array | None) -> Array:
    """Return outputs with NaN in some rows and in masked positions.

    Args:
        outputs: of the model.
        rows: the numbers of the rows.
        valid: which positions hold data; None for outputs without positions.
    """
    if len(rows):
        outputs = outputs.copy()
        outputs[rows] = np.nan
    return outputs if valid is None else np.where(on_axes_of(valid, outputs), outputs, np.nan)


def labels_of(classes: Array, names: Sequence[str]) -> Array:
    """Return the UTF-8 names of classes; empty where a class has none, such as -1 for none."""
    width = max(1, *(len(_bytes(name)) for name in names))
    table = np.array([*map(_bytes, names), b""], f"S{width}")
    return table[np.where((classes >= 0) & (classes < len(names)), classes, len(names))]


def texts_of(classes: Arrays, names: Any, output: str | None) -> Arrays:
    """Return the names of classes as texts, of one output or of each by name.

    Args:
        classes: their numbers.
        names: of the classes; of several targets, by the name of the target.
        output: the name of the only output; None for one without a name, or for several.

    Raises:
        UserError: the classes of the output have no names.
    """
    if isinstance(classes, Mapping):
        return {name: texts_of(classes[name], names[name], None) for name in classes if name in names}
    if output is not None and output not in names:
        raise unknown("output whose classes have names", output, names)
    found = labels_of(classes, names if output is None else names[output])
    return np.char.decode(found, "utf-8", "surrogateescape")


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


def file_columns(found: Prediction, loss: Any, meaning: Meaning) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the columns of a file of predictions, and their attributes.

    Those of several outputs have the name of the output behind them, such as outputs/energy.

    Args:
        found: the outputs for some rows.
        loss: the loss, or a JointLoss.
        meaning: of the training data.
    """
    if not isinstance(loss, JointLoss):
        targets = meaning.get("targets", ColumnMeaning(FLOATS))
        single = columns_of(found.outputs, loss.predict(found.outputs), targets.classes, found.row_names)
        return single, dict(attributes_of(single, targets))
    columns: dict[str, Array] = {}
    attributes: dict[str, Any] = {}
    for name, outputs in found.outputs.items():
        targets = meaning_of_target(meaning, name)
        predicted = loss.loss_of(name).predict(outputs) if name in loss.parts else {}
        own = columns_of(outputs, predicted, targets.classes, {})
        columns |= {f"{column}/{name}": values for column, values in own.items()}
        attributes |= {f"{column}/{name}": value for column, value in attributes_of(own, targets).items()}
    return {**columns, **found.row_names}, attributes


def check_column(trained: ModelOnData, column: str, output: str | None) -> None:
    """Raise UserError unless there is a column of what is predicted.

    Args:
        trained: the model.
        column: "outputs", "probabilities" or "classes".
        output: the name of an output; None for all of them, of which one must have the column.
    """
    loss = trained.loss
    if not isinstance(loss, JointLoss):
        if output is not None:
            raise UserError(f"output must be left out, as the model's outputs have no names, but is {output!r}")
        if column != OUTPUTS and column not in loss.predict(np.zeros((1, *trained.output_shape), trained.dtype)):
            raise UserError(
                f"loss {loss.kind!r} knows no {column} of the model's outputs; use predict(), which returns the outputs"
            )
        return
    if output is not None and output not in trained.output_shape:
        raise unknown("output", output, trained.output_shape)
    shapes = trained.output_shape if output is None else {output: trained.output_shape[output]}
    zeros = {name: np.zeros((1, *shape), trained.dtype) for name, shape in shapes.items()}
    if not column_of(Prediction(0, zeros, {}, np.empty(0)), loss, column, None):
        which = "the losses know" if output is None else f"the loss of {output!r} knows"
        raise UserError(f"{which} no {column} of the model's outputs; use predict(), which returns the outputs")


def column_of(found: Prediction, loss: Any, column: str, output: str | None) -> dict[str, Array]:
    """Return a column of what is predicted by the name of the output, of those that have it.

    Args:
        found: the outputs for some rows.
        loss: the loss, or a JointLoss.
        column: "outputs", "probabilities" or "classes".
        output: the name of the only output that is asked for; None for all.
    """
    if not isinstance(loss, JointLoss):
        return {"": found.outputs if column == OUTPUTS else loss.predict(found.outputs)[column]}
    chosen = {name: values for name, values in found.outputs.items() if output in (None, name)}
    if column == OUTPUTS:
        return chosen
    predicted = {name: loss.loss_of(name).predict(values) for name, values in chosen.items() if name in loss.parts}
    return {name: columns[column] for name, columns in predicted.items() if column in columns}

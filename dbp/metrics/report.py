"""The report of an evaluation: a table with a line for each class or output, and the confusion matrix, as text.

Lines have at most 80 columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.metrics.classes import (
    MOST_CLASSES,
    ConfusionMatrix,
    Counts,
    averaged,
    counts_for,
    f1_scores,
    matrices_of_answers,
    precisions,
    recalls,
)
from dbp.metrics.fitting import AVERAGES, check_targets_are, columns_of_each
from dbp.metrics.metric_set import FittedMetric
from dbp.metrics.numbers import ErrorSums, VariationSums, means_of
from dbp.metrics.predictions import TargetForm
from dbp.nn import ANSWERS, CLASSES, NUMBERS
from dbp.text import figure, printable, table
from dbp.types import Array

COLUMNS, MOST_LETTERS = 80, 24  # of a line; of the name of a class or output
MOST_PAIRS = 10  # of classes that are taken for one another, where the matrix is too wide
ERRORS = ("mae", "rmse", "r2")
SCORES = {"precision": precisions, "recall": recalls, "f1": f1_scores}


@dataclass(frozen=True)
class Report:
    """What a report shows, as tables of an evaluation: a metric without columns."""

    kind: ClassVar[str] = "report"
    needs_sample: ClassVar[bool] = True

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS, NUMBERS), "report", form)
        if form.kind == NUMBERS:
            variation, errors = VariationSums.around(form), ErrorSums(form.count)
            return [
                FittedMetric({}, variation, _no_values, lambda sums: {"r2": variation.r2(sums)}),
                FittedMetric({}, errors, _no_values, lambda sums: {"errors": means_of(sums)}),
            ]
        counts = counts_for(form)
        found = [FittedMetric({}, counts, _no_values, lambda sums: {"counts": sums.copy()})]
        if form.kind == CLASSES and form.count <= MOST_CLASSES:
            found += ConfusionMatrix().fit(form)
        return found


def _no_values(sums: Array, weight: float) -> Sequence[float]:  # noqa: ARG001
    """Return nothing: tables alone are shown."""
    return ()


def columns_in_table(form: TargetForm) -> set[str]:
    """Return the columns of single classes or outputs that the table of a report shows."""
    kinds = ERRORS if form.kind == NUMBERS else SCORES
    return {column for kind in kinds for column in columns_of_each(kind, form)}


def report_lines(tables: Mapping[str, Array], form: TargetForm, units: Sequence[str] = ()) -> list[str]:
    """Return the lines of a report.

    Args:
        tables: of an evaluation with the metric Report.
        form: of the targets.
        units: of the outputs, if they are known; "" where there is none.
    """
    if form.kind == NUMBERS:
        return _errors(tables["errors"], tables["r2"], _names(form), units)
    matrix = tables.get("confusion_matrix") if form.kind == CLASSES else None
    counts, names = counts_for(form).counts(tables["counts"]), _names(form)
    if form.is_binary:
        matrix = matrices_of_answers(tables["counts"])
        counts = Counts(np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1), counts_always=True)
    lines = _scores(counts, names, "class" if matrix is not None or form.kind == CLASSES else "output")
    return lines if matrix is None else [*lines, "", *matrix_lines(matrix, names)]


def _names(form: TargetForm) -> list[str]:
    """Return the names of classes or outputs as they are shown; their numbers if they have none."""
    if form.is_binary:
        return _shown(form.names if len(form.names) == 2 else ("no", "yes"))
    return _shown(form.names or [str(number) for number in range(form.count)])


def _shown(names: Sequence[str]) -> list[str]:
    plain = [" ".join(printable(name).split()) or '""' for name in names]
    return [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 3]}..." for name in plain]


def _count(value: float) -> str:
    """Format a sum of example weights, which is a whole number where all weights are 1."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def _scores(counts: Counts, names: Sequence[str], what: str) -> list[str]:
    """Return a table of precision, recall and F1 of each class, and their averages."""
    each = np.array([score(counts) for score in SCORES.values()]).T
    rows = [[what, *SCORES, "examples"]]
    for name, scores, actual, occurs in zip(names, each, counts.actual, counts.occurs, strict=True):
        rows.append([name, *(f"{score:.4f}" if occurs else "-" for score in scores), _count(actual)])
    total = _count(float(counts.actual.sum()))
    for average in AVERAGES:
        values = [averaged(score, counts, average) for score in SCORES.values()]
        rows.append([f"{average} average", *(f"{value:.4f}" for value in values), total])
    lines = table(rows, left=[0])
    return [lines[0], *lines[1 : -len(AVERAGES)], "", *lines[-len(AVERAGES) :]]


def _errors(errors: Array, r2: Array, names: Sequence[str], units: Sequence[str]) -> list[str]:
    """Return a table of the errors of each output, and their mean."""
    absolute, squared = errors
    rows = [["output", *ERRORS]]
    columns = np.array([absolute, np.sqrt(squared), r2]).T
    for number, values in enumerate(columns):
        unit = f" ({printable(units[number])})" if number < len(units) and units[number] else ""
        rows.append([names[number] + unit, *map(figure, values)])
    if len(columns) > 1:
        rows.append(["mean", *map(figure, columns.mean(axis=0))])
    return table(rows, left=[0])


def matrix_lines(matrix: Array, names: Sequence[str]) -> list[str]:
    """Return a confusion matrix (classes, classes) as lines, or if it is too wide, the pairs taken for one another."""
    numbers = [str(number) for number in range(len(names))]
    cells = [numbers, *(list(map(_count, row)) for row in matrix)]
    width = max(len(cell) for row in cells for cell in row)
    heads = [
        "",
        *(number if number == name else f"{number} {name}" for number, name in zip(numbers, names, strict=True)),
    ]
    rows = [[head, *(cell.rjust(width) for cell in row)] for head, row in zip(heads, cells, strict=True)]
    lines = table(rows, left=[0])
    if max(map(len, lines)) <= COLUMNS:
        return ["confusion matrix: a row for each true class, a column for each predicted one", *lines]
    wrong = matrix * (1 - np.eye(len(matrix)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(index), len(matrix)) for index in order if wrong.flat[index] > 0]
    if not pairs:
        return ["no class was taken for another"]
    found = [["true class", "taken for", "examples", "share"]]
    for actual, predicted in pairs:
        share = wrong[actual, predicted] / matrix[actual].sum()
        found.append([names[actual], names[predicted], _count(wrong[actual, predicted]), f"{share:.1%}"])
    return ["the classes that were most often taken for another:", *table(found, left=[0, 1])]

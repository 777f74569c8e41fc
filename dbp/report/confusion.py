"""The confusion matrix: which classes are taken for which, and precision, recall and F1 of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dbp.report.markup import Markup, figure, section, table, tag
from dbp.types import Array

NAME = "confusion_matrix"  # of the tables in a checkpoint; the rows are the targets, the columns what was predicted
MOST_CLASSES = 24  # that are drawn as a matrix
LARGEST = 1e15  # count of a cell
MOST_PAIRS, MOST_ROWS, MOST_OUTPUTS = 10, 50, 12
ANSWERS = ("no", "yes")  # the classes of an output


def confusion_of(tables: dict[str, Array], classes: Mapping[str, Sequence[str]], source: str = "") -> Markup:
    """Return the section on the confusion matrices among the tables of a run; empty without any.

    Args:
        tables: by name, such as validation/confusion_matrix, of a target with a name validation/confusion_matrix_kind.
        classes: names of the classes by target, "" for one without a name; without those that are not known.
        source: what the matrices are of, where their names do not say it.
    """
    parts = []
    for name, matrix in tables.items():
        beginning, _, last = name.rpartition("/")
        target = last.removeprefix(NAME).removeprefix("_")
        if last != NAME and not last.startswith(f"{NAME}_"):
            continue
        data = (source or f"{beginning.partition('/')[0]} data") + (f", {target}" if target else "")
        of_target = classes.get(target, ())
        if _is_confusion(matrix):
            parts.append(_part(np.asarray(matrix, np.float64), _names(of_target, len(matrix)), data))
        elif matrix.ndim == 3 and len(matrix) <= MOST_OUTPUTS:
            outputs = _names(of_target, len(matrix))
            parts += [
                _part(m, ANSWERS, f"{data}, {o}") for m, o in zip(matrix, outputs, strict=True) if _is_confusion(m)
            ]
    return section("What is taken for what", parts)


def _is_confusion(matrix: Array) -> bool:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 1
    return bool(square and ((matrix >= 0) & (matrix < LARGEST)).all() and matrix.sum() > 1 / LARGEST)


def _names(classes: Sequence[str], count: int) -> list[str]:
    return [*classes] if len(classes) == count else [str(number) for number in range(count)]


def _part(matrix: Array, names: Sequence[str], data: str) -> Markup:
    total, right = matrix.sum(), np.trace(matrix)
    lead = f"Of the {data}, {count_text(right)} of {count_text(total)} examples are right ({right / total:.2%})."
    drawn = _matrix(matrix, names) if len(names) <= MOST_CLASSES else None
    note = (
        "A row is a class as it is, a column what it is taken for. Blue: right; orange: wrong, by its share of the row."
    )
    pairs = tag("div", drawn, _pairs(matrix, names), class_="pair")
    title = "Confusion matrix" if drawn else None
    confusion = figure(title, pairs, note=note if drawn else None, class_="card full")
    return tag("div", tag("p", lead, class_="lead"), confusion, _classes(matrix, names))


def count_text(number: float) -> str:
    """Return a number of examples, or a sum of their weights, as text."""
    return f"{number:,.0f}" if number == math.floor(number) else f"{number:,.4g}"


def _matrix(matrix: Array, names: Sequence[str]) -> Markup:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-300)
    worst = max(float((shares - np.diag(np.diag(shares))).max()), 1e-300)
    head = [tag("th"), *(tag("th", tag("span", name), scope="col") for name in names)]
    rows = []
    for i, name in enumerate(names):
        cells = [
            _cell(matrix[i, j], shares[i, j], i == j, worst, f"{name} taken for {names[j]}") for j in range(len(names))
        ]
        rows.append(tag("tr", tag("th", name, scope="row"), cells))
    drawn = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), class_="matrix")
    return tag("div", drawn, class_="scroll", tabindex=0)


def _cell(count: float, share: float, is_right: bool, worst: float, words: str) -> Markup:
    """Return a cell, whose color is as strong as its share; of the wrong ones, beside the worst."""
    strength = share if is_right else 0.75 * math.sqrt(share / worst)
    style = "right" if is_right else "wrong"
    strong = " strong" if strength > 0.55 else ""
    return tag(
        "td",
        count_text(count) if count else "",
        class_=f"{style}{strong}",
        style=f"--share:{100 * strength:.0f}%",
        title=f"{words}: {count_text(count)} ({share:.1%})"
        if not is_right
        else f"right: {count_text(count)} ({share:.1%})",
    )


def _pairs(matrix: Array, names: Sequence[str]) -> Markup:
    """Return the pairs of classes that are confused most often, as bars."""
    wrong = matrix * (1 - np.eye(len(matrix)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(*divmod(int(index), len(matrix)), float(wrong.flat[index])) for index in order]
    bars = [
        tag(
            "li",
            tag("span", tag("b", names[i]), " taken for ", tag("b", names[j]), class_="name"),
            tag("span", tag("i", style=f"width:{100 * count / pairs[0][2]:.1f}%"), class_="track"),
            tag("span", f"{count_text(count)}, {count / matrix[i].sum():.1%}", class_="value"),
        )
        for i, j, count in pairs
        if count
    ]
    title = tag("h3", "Most often confused")
    return tag("div", title, tag("ol", bars, class_="bars wrong")) if bars else Markup()


def _classes(matrix: Array, names: Sequence[str]) -> Markup:
    """Return precision, recall and F1 of each class, the worst first where there are too many."""
    right, targets, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = right / predicted, right / targets
        f1 = 2 * right / (targets + predicted)
    order = range(len(names))
    if len(names) > MOST_ROWS:
        order = np.argsort(np.nan_to_num(f1), kind="stable")[:MOST_ROWS].tolist()
    rows = [
        [
            names[i],
            *(f"{x[i]:.3f}" if np.isfinite(x[i]) else "-" for x in (precision, recall, f1)),
            count_text(targets[i]),
        ]
        for i in order
    ]
    note = f"The {MOST_ROWS} classes of the lowest F1, of {len(names):,}." if len(names) > MOST_ROWS else None
    return figure("By class", table(["class", "precision", "recall", "F1", "examples"], rows), note=note)

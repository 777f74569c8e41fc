"""The text of a report by class or output."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from dbp.metrics import TargetForm
from dbp.metrics.report import Report, matrix_lines, report_lines
from tests.metrics.values import LABELS, NUMBERS, SCORES, YES, fitted, values

NAMES = ["cat", "dog", "\x1b[31mred", "a name of more than twenty-four letters"]


def report(loss, outputs, targets, names=(), weights=None, units=()):
    kinds = [Report()] if isinstance(loss, nn.Huber) else ["confusion_matrix", Report()]
    _, tables = values(kinds, loss, outputs, targets, weights, names)
    form = TargetForm.of(loss, outputs.shape[1:])
    return report_lines(tables, TargetForm(form.loss, form.kind, form.count, tuple(names)), units)


def cells(lines, name):
    (line,) = (line for line in lines if line.startswith(name))
    return line.removeprefix(name).split()


def test_each_class_has_a_line_and_the_matrix_follows():
    lines = report(nn.CrossEntropy(), SCORES, LABELS, NAMES)
    predicted = SCORES.argmax(axis=1)
    expected = peer.classification_report(LABELS, predicted, output_dict=True, zero_division=0)
    for number, name in enumerate(["cat", "dog", "\\x1b[31mred"]):
        line = expected[str(number)]
        shown = [f"{line[key]:.4f}" for key in ("precision", "recall", "f1-score")]
        assert cells(lines, name) == [*shown, f"{line['support']:.0f}"]
    assert cells(lines, "a name of more than t...")[-1] == "0"
    macro = [f"{expected['macro avg'][key]:.4f}" for key in ("precision", "recall", "f1-score")]
    assert cells(lines, "macro average") == [*macro, "60"]
    matrix = peer.confusion_matrix(LABELS, predicted, labels=range(4))
    assert cells(lines, "0 cat") == [str(count) for count in matrix[0]]
    assert max(map(len, lines)) <= 80


def test_answers_have_a_line_for_each_output_and_one_answer_has_two_classes():
    lines = report(nn.BinaryCrossEntropy(), SCORES[:, :3], YES, ["x", "y", "z"])
    assert len([line for line in lines if line and line[0] in "xyz"]) == 3
    lines = report(nn.BinaryCrossEntropy(), SCORES[:, :1], YES[:, :1])
    matrix = peer.confusion_matrix(YES[:, 0], SCORES[:, 0] > 0)
    assert cells(lines, "1 yes") == [str(count) for count in matrix[1]]
    assert cells(lines, "yes")[1] == f"{matrix[1, 1] / matrix[1].sum():.4f}"


def test_regression_has_errors_of_each_output_in_its_unit():
    outputs = NUMBERS + np.array([0.0, 0.1, 0.2])
    lines = report(nn.Huber(), outputs, NUMBERS, ["energy", "x", "y"], units=["eV", "", "mm"])
    assert cells(lines, "energy (eV)") == ["0.0000", "0.0000", "1.0000"]
    assert cells(lines, "y (mm)")[:2] == ["0.2000", "0.2000"]
    assert cells(lines, "mean")[0] == "0.1000"


def test_many_classes_have_no_matrix_but_the_pairs_taken_for_one_another():
    matrix = np.diag(np.full(60, 1000.0))
    matrix[7, 3] = 250
    lines = matrix_lines(matrix, [f"class {number}" for number in range(60)])
    assert lines[-1].split() == ["class", "7", "class", "3", "250", "20.0%"]
    assert matrix_lines(np.diag(np.ones(60)), ["c"] * 60) == ["no class was taken for another"]
    assert max(map(len, lines)) <= 80


def test_more_classes_than_a_matrix_takes():
    assert fitted([Report()], nn.CrossEntropy(), np.zeros((2, 300)), np.zeros(2, int)).width == 900


@pytest.mark.parametrize("weights", [np.full(60, 0.5)])
def test_weighted_counts_are_no_whole_numbers(weights):
    lines = report(nn.CrossEntropy(), SCORES[:59], LABELS[:59], weights=weights[:59])
    assert cells(lines, "macro average")[-1] == "29.50"

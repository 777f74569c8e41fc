"""The confusion matrix as a picture, its classes and its pairs."""

import numpy as np

from dbp.report.confusion import confusion_of

MATRIX = np.array([[50, 10, 0], [2, 30, 8], [0, 0, 20]])


def test_a_matrix_is_shown_with_its_figures():
    drawn = confusion_of({"validation/confusion_matrix": MATRIX}, {"": ["cat", "<i>", "dog"]})
    assert "Of the validation data, 100 of 120 examples are right (83.33%)." in drawn
    assert "&lt;i&gt; taken for dog: 8 (20.0%)" in drawn
    assert "<i>" not in drawn.replace("<i class", "").replace("<i style", "")
    assert drawn.index("<b>cat</b> taken for <b>&lt;i&gt;</b>") < drawn.index("<b>&lt;i&gt;</b> taken for <b>dog</b>")
    for figure in ("0.962", "0.833", "0.893"):  # precision, recall and F1 of the first class
        assert f"<td>{figure}</td>" in drawn


def test_each_output_with_answers_has_a_matrix_of_its_own():
    drawn = confusion_of(
        {"validation/confusion_matrix": np.array([[[5, 1], [0, 4]], [[2, 2], [3, 3]]])}, {"": ["rain", "wind"]}
    )
    assert "Of the validation data, rain, 9 of 10 examples are right" in drawn
    assert "no taken for yes: 2 (50.0%)" in drawn


def test_a_matrix_of_a_target_with_a_name_has_its_classes():
    classes = {"kind": ["cat", "cow", "dog"], "": ["a", "b", "c"]}
    drawn = confusion_of({"validation/confusion_matrix_kind": MATRIX}, classes)
    assert "Of the validation data, kind, 100 of 120 examples are right" in drawn
    assert "cow" in drawn


def test_weights_and_classes_without_examples_are_no_trouble():
    drawn = confusion_of({"test/confusion_matrix": np.array([[1.5, 0.0], [0.0, 0.0]])}, {})
    assert "Of the test data, 1.5 of 1.5 examples are right" in drawn
    assert "<td>-</td>" in drawn
    assert "nan" not in drawn


def test_many_classes_are_not_drawn_as_a_matrix_and_what_is_none_not_at_all():
    many = confusion_of({"validation/confusion_matrix": np.ones((200, 200))}, {})
    assert "Confusion matrix" not in many
    assert "The 50 classes of the lowest F1, of 200." in many
    for wrong in (np.ones((2, 3)), np.full((2, 2), np.nan), -np.ones((2, 2)), np.zeros((2, 2)), np.ones(4)):
        assert confusion_of({"validation/confusion_matrix": wrong}, {}) == ""

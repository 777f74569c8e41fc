"""Losses by closed form, their derivatives, and targets that do not fit."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from dbp.metrics import Predictions

X = np.random.default_rng(0).standard_normal((5, 3))


def test_cross_entropy_by_closed_form():
    z, y = X, np.array([0, 2, 1, 1, 0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nn.CrossEntropy()(z, y), -np.log(p[np.arange(5), y]))
    assert Predictions(z, y).right_classes.tolist() == (z.argmax(1) == y).tolist()
    np.testing.assert_allclose(nn.CrossEntropy().predict(z)["probabilities"], p)


def test_binary_cross_entropy_by_closed_form():
    z, y = X, (X > 0.3).astype(float)
    p = 1 / (1 + np.exp(-z))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(nn.BinaryCrossEntropy()(z, y), expected)
    np.testing.assert_array_equal(Predictions(z, y).right_answers, (z > 0) == y)


PROBABILITIES = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]])
LABELS = np.array([0, 2, 1, 1, 0])


def test_cross_entropy_with_probabilities_and_smoothing():
    logs = np.log(np.exp(X) / np.exp(X).sum(axis=1, keepdims=True))
    loss = nn.CrossEntropy()
    np.testing.assert_allclose(loss(X, PROBABILITIES), -(PROBABILITIES * logs).sum(axis=1))
    np.testing.assert_allclose(loss(X, np.eye(3)[LABELS]), loss(X, LABELS))
    smooth = 0.8 * np.eye(3)[LABELS] + 0.2 / 3
    np.testing.assert_allclose(nn.CrossEntropy(0.2)(X, LABELS), loss(X, smooth))
    assert Predictions(X, PROBABILITIES).right_classes.tolist() == (X.argmax(1) == PROBABILITIES.argmax(1)).tolist()


def test_kullback_leibler_is_zero_for_equal_probabilities():
    inside = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(nn.KullbackLeibler()(np.log(inside), inside), 0, atol=1e-15)
    p = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    t = np.where(PROBABILITIES > 0, PROBABILITIES, 1)
    np.testing.assert_allclose(nn.KullbackLeibler()(X, PROBABILITIES), (PROBABILITIES * np.log(t / p)).sum(axis=1))


def test_hinge_by_closed_form():
    margins = np.maximum(0, 0.7 - X[np.arange(5), LABELS][:, None] + X)
    margins[np.arange(5), LABELS] = 0
    np.testing.assert_allclose(nn.Hinge(0.7)(X, LABELS), margins.mean(axis=1), atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("margin", [1.0, 0.1, 0.7])
def test_hinge_is_exactly_zero_where_no_margin_is_violated(dtype, margin):
    for classes in range(2, 12):
        z = 3 * np.eye(classes, dtype=dtype)
        assert not nn.Hinge(margin)(z, np.arange(classes)).any()
        loss = nn.Hinge(margin)(z, np.roll(np.arange(classes), 1))
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss, (3 + margin + (classes - 2) * margin) / classes, rtol=1e-6)


def test_huber_and_absolute_error_by_closed_form():
    difference = np.array([[0.3, -0.5, 2.0, -4.0]])
    expected = np.array([0.5 * 0.09, 0.5 * 0.25, 1.5 * (2 - 0.75), 1.5 * (4 - 0.75)])
    np.testing.assert_allclose(nn.Huber(1.5)(difference, 0 * difference), [expected])
    np.testing.assert_allclose(nn.MeanAbsoluteError()(difference, 0 * difference), np.abs(difference))


def test_mean_squared_error_by_closed_form():
    y = X[::-1].copy()
    np.testing.assert_allclose(nn.MeanSquaredError()(X, y), (X - y) ** 2)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropy(), np.array([0, 2, 1, 1, 0])),
        (nn.BinaryCrossEntropy(), (X > 0).astype(float)),
        (nn.MeanSquaredError(), X[::-1].copy()),
        (nn.CrossEntropy(0.1), np.array([0, 2, 1, 1, 0])),
        (nn.CrossEntropy(), PROBABILITIES),
        (nn.KullbackLeibler(), PROBABILITIES),
        (nn.Hinge(), LABELS),
        (nn.MeanAbsoluteError(), X[::-1] + 0.01),
        (nn.Huber(0.5), X[::-1] + 0.01),
    ],
)
def test_losses_have_right_derivatives(loss, targets):
    ad.check_derivatives(lambda z: loss(z, targets), X)


def test_targets_of_one_output_may_be_a_column_or_not():
    y = np.array([1.0, 2.0])
    prepared = nn.MeanSquaredError().prepare(y, (1,), np.dtype("float32"))
    assert prepared.shape == (2, 1)
    assert prepared.dtype == np.float32


@pytest.mark.parametrize(
    ("loss", "targets", "shape", "message"),
    [
        ("cross_entropy", np.array([0, 3]), (3,), r"from 0 to 2.*example 11 has 3"),
        ("cross_entropy", np.array([-1, 0]), (3,), r"from 0 to 2.*example 10 has -1"),
        (
            "cross_entropy",
            np.array([0.0, 1.5]),
            (3,),
            r"whole .*example 11 has 1.5; use mean_squared_error",
        ),
        ("cross_entropy", np.array([np.nan, 1]), (3,), r"whole numbers.*example 10 has nan"),
        (
            "cross_entropy",
            np.array([np.inf, 1]),
            (3,),
            r"example 10 has inf; number classes from 0, and set the example weight",
        ),
        ("cross_entropy", np.array([[0], [3]]), (3,), r"from 0 to 2.*example 11 has 3"),
        (
            "cross_entropy",
            np.array([[0, 1, 0], [0, 2, 0]]),
            (3,),
            r"one 1 and .* example 11 has \[0, 2, 0\]",
        ),
        (
            "hinge",
            np.array([[1, 1, 0]], bool),
            (3,),
            r"one 1 and .* example 10 has \[True, True",
        ),
        ("cross_entropy", np.eye(4), (3,), r"one column per class would be 3, so give the model 4 outputs"),
        ("cross_entropy", np.array([b"1", b"2"]), (3,), r"one integer per example, but are \|S1"),
        (
            "cross_entropy",
            np.array([0]),
            (4, 3),
            r"integers of shape \(4,\).*\(\) per example; is a flatten or a pooling layer missing",
        ),
        (
            "cross_entropy",
            np.zeros((1, 6), int),
            (4, 3),
            r"integers of shape \(4,\).*\(6,\) per example; change the lengths of the outputs, such as by padding",
        ),
        ("cross_entropy", np.array([[0, 1], [1, 3]]), (2, 3), r"from 0 to 2.*at each position, but example 11 has 3"),
        ("cross_entropy", np.array([0]), (), r"one output per class"),
        ("cross_entropy", np.array([0]), (1,), r"the model has 1, .* always 0; take binary_cross_entropy"),
        ("kullback_leibler", np.ones((2, 4, 1)), (4, 1), r"kullback_leibler takes one output per class, .* has 1"),
        ("hinge", np.array([0]), (1,), r"hinge takes one output per class, but the model has 1"),
        ("cross_entropy", np.array([[0.5, 0.4]]), (2,), r"add up to 1, but example 10 has"),
        ("kullback_leibler", np.array([[0.5, 0.5], [1.5, -0.5]]), (2,), r"add up to 1, but example 11 has"),
        ("hinge", np.array([[0.5, 0.5]]), (2,), r"targets of hinge must be one integer"),
        ("huber", np.zeros((2, 4)), (3,), r"outputs' shape"),
        ("binary_cross_entropy", np.array([0.0, 1.5]), (1,), r"from 0 to 1, but example 11 has 1.5"),
        ("mean_squared_error", np.array([0.0, np.nan]), (1,), r"finite.*example 11"),
        ("mean_squared_error", np.zeros((2, 4)), (3,), r"outputs' shape \(3,\).*have \(4,\)"),
        ("binary_cross_entropy", np.array([0, 1]), (2,), r"but have \(\); take cross_entropy for numbers of classes"),
        ("mean_squared_error", np.array(["a", "b"]), (1,), r"must be numbers"),
    ],
)
def test_targets_that_do_not_fit(loss, targets, shape, message):
    with pytest.raises(UserError, match=message):
        nn.loss_named(loss).check(targets, shape, first=10)


@pytest.mark.parametrize("positions", [(), (4,)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, bool])
@pytest.mark.parametrize("loss", [nn.CrossEntropy(), nn.Hinge(), nn.KullbackLeibler()])
def test_numbers_of_classes_in_every_form(loss, dtype, positions):
    shape = (*positions, 3)
    classes = np.random.default_rng(0).integers(0, 2 if dtype is bool else 3, (6, *positions))
    forms = [classes.astype(dtype), classes.astype(dtype)[..., None]]
    forms += [] if dtype is np.float32 else [np.eye(3, dtype=dtype)[classes]]
    for form in forms:
        loss.check(form, shape)
        np.testing.assert_array_equal(loss.prepare(form, shape, np.dtype("float32")), classes)
        assert loss.prepare(form, shape, np.dtype("float32")).dtype == np.intp


@pytest.mark.parametrize(
    ("loss", "targets", "weights"),
    [
        ("cross_entropy", np.array([0, 2, 0]), np.array([1, 2, 0])),
        ("cross_entropy", np.array([[0.5, 0.5, 0], [0, 0, 0], [0, 1, 0]]), np.array([1, 0, 2])),
        ("kullback_leibler", np.zeros((2, 3), int), np.array([0, 0])),
        ("binary_cross_entropy", np.zeros((2, 3)), np.array([[0, 1, 0], [1, 1, 0]])),
    ],
)
def test_targets_of_weight_0_are_checked_as_the_first_class(loss, targets, weights):
    nn.check_targets(nn.loss_named(loss), targets, weights, (3,))


def test_probabilities_of_zeros_that_count_are_refused():
    with pytest.raises(UserError, match="add up to 1, but example 11"):
        nn.check_targets(nn.CrossEntropy(), np.zeros((2, 3)), np.array([0, 1]), (3,), first=10)


@pytest.mark.parametrize("name", ["cross_entropy", "kullback_leibler"])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_wrong_rows_are_shown_in_one_line(name, dtype):
    with pytest.raises(UserError, match=r"but example 10 has \[0.*characters\)$") as caught:
        nn.loss_named(name).check(np.zeros((2, 100), dtype), (100,), first=10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", nn.LOSSES)
def test_losses_by_name(name):
    assert nn.loss_named(name).kind == name


@pytest.mark.parametrize("loss", [nn.MeanSquaredError(), nn.MeanAbsoluteError(), nn.Huber(), nn.BinaryCrossEntropy()])
def test_outputs_and_targets_of_two_shapes_are_not_paired_up(loss):
    with pytest.raises(ad.ShapeError, match=r"outputs have shape \(3, 1\), but targets \(3,\)"):
        loss(np.ones((3, 1)), np.zeros(3))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_never_right_and_of_no_class(wrong):
    z = np.array([[0.0, 1, 2], [3, 2, 1], [wrong, 0, 1], [1, wrong, 0], [wrong, wrong, wrong]])
    expected = [2, 0, 2, 0, -1] if wrong == -np.inf else [2, 0, -1, -1, -1]  # -inf rules one class out
    with np.errstate(invalid="ignore"):
        for k in range(3):
            for targets in (np.full(5, k), np.eye(3)[np.full(5, k)]):
                assert Predictions(z, targets).right_classes.tolist() == [found == k for found in expected]
        assert nn.CrossEntropy().predict(z)["classes"].tolist() == expected
        assert nn.Hinge().predict(z[None])["classes"].tolist() == [expected]
        z = np.array([[wrong], [1.0], [-1.0]])
        assert nn.BinaryCrossEntropy().predict(z)["classes"].tolist() == [[-1], [1], [0]]
        for target in (0, 1):
            found = Predictions(z, np.full((3, 1), target)).right_answers
            assert found.tolist() == [[False], [target == 1], [target == 0]]

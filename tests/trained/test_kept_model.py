"""What a trained model keeps from call to call: itself, and the checks of the form of its inputs."""

import weakref
from dataclasses import replace

import numpy as np
import pytest

import dbp
from dbp.errors import UserError
from dbp.nn import BatchNorm, Dense
from tests.small_data import X, Y


def small_model():
    """Return a model of one layer, named neither in its data nor by classes."""
    data = X.astype(np.float32), Y
    layer = lambda scope, x: x @ scope.parameter("weight", (5, 3)) + scope.parameter("bias", (3,))  # noqa: E731
    return dbp.fit(model=layer, loss="cross_entropy", data=data, optimizer="adam", epochs=1, batch_size=12, quiet=True)


def test_inputs_of_a_known_form_are_checked_by_their_numbers_and_not_kept():
    model = small_model()
    rows = [X[:1].astype(np.float32), X[1:4].astype(np.float32)]
    expected = [rows[n] @ model.weights["weight"] + model.weights["bias"] for n in range(2)]
    for _ in range(2):  # the second time their form is known
        for given, outputs in zip(rows, expected, strict=True):
            np.testing.assert_allclose(model.predict(given), outputs, rtol=1e-5, atol=1e-6)
    known = weakref.ref(given := rows[0].copy())
    model.predict(given)
    del given
    assert known() is None
    with pytest.raises(UserError, match="example 1 has no prediction, as its inputs contain nan"):
        model.predict(np.float32([[1] * 5, [np.nan] * 5]))
    with pytest.raises(UserError, match=r"shape \(4,\) do not fit the model"):
        model.predict(X[:1, :4].astype(np.float32))
    with pytest.raises(UserError, match="has no examples"):
        model.predict(rows[0][:0])
    np.testing.assert_allclose(model.predict(X[:1]), expected[0], rtol=1e-5, atol=1e-6)  # in float64


def test_predictions_for_a_known_form_follow_the_weights():
    model, given = small_model(), X[:2].astype(np.float32)
    before = model.predict(given)
    model.weights["bias"] = model.weights["bias"] + np.float32([1, 0, -2])
    after = np.add(before, [1, 0, -2])
    np.testing.assert_allclose(model.predict(given), after, rtol=1e-5, atol=1e-6)
    assert set(model.evaluate((given, Y[:2]))) == {"cost", "accuracy"}
    np.testing.assert_allclose(model.predict(given), after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_follow_weights_that_are_changed_where_they_are(dtype):
    data = X.astype(np.float32), Y
    layers = [Dense(4), BatchNorm(), Dense(3)]
    model = dbp.fit(
        model=layers, loss="cross_entropy", data=data, optimizer="adam", epochs=1, batch_size=12, quiet=True
    )
    for name, array in model.weights.items():  # of another type than the model computes in, too
        model.weights[name] = array.astype(dtype, copy=False)
    given = data[0][:2]
    for name, array in model.weights.items():
        before = model.predict(given)
        array[...] = 2 * array + 1
        fresh = replace(model, weights=dict(model.weights))
        np.testing.assert_array_equal(model.predict(given), fresh.predict(given), err_msg=name)
        assert model.evaluate((given, Y[:2])) == fresh.evaluate((given, Y[:2])), name
        assert not np.array_equal(model.predict(given), before), name


def test_weights_that_do_not_fit_are_refused_after_predictions_too():
    model, given = small_model(), X[:2].astype(np.float32)
    expected, weight = model.predict(given), model.weights["weight"]
    model.weights["weight"] = weight[:, :2]
    with pytest.raises(UserError, match=r"weight would have shape \(5, 3\), but has \(5, 2\)"):
        model.predict(given)
    del model.weights["weight"]
    with pytest.raises(UserError, match="the weights lack weight"):
        model.predict(given)
    model.weights["weight"] = weight
    np.testing.assert_array_equal(model.predict(given), expected)

"""Models as functions: parameters by name, errors that name the model's own code, weights that are missing."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from tests.nn.models import outputs_of

X = np.random.default_rng(0).standard_normal((5, 3))


def test_a_function_is_a_model_and_shares_parameters_by_name():
    def tied(scope, x):
        w = scope.parameter("weight", (3, 2))
        return (x @ w) @ ad.transpose(scope.parameter("weight", (3, 2)))

    parameters, shape, y = outputs_of(tied, X)
    assert list(parameters) == ["weight"]
    assert shape == (3,)
    np.testing.assert_allclose(y, X @ parameters["weight"] @ parameters["weight"].T)


def test_running_moments_are_found_among_the_weights_of_a_result():
    model = nn.Sequential(nn.Dense(3), nn.BatchNorm())
    initial = nn.initial_parameters(model, X, 0, "float64")
    parameters, running = initial.parameters, initial.running
    running["batch_norm_1/"].mean += 2
    arrays = parameters | nn.running_arrays(running)
    np.testing.assert_array_equal(model(nn.use(arrays), X), model(nn.use(parameters, running), X))


def plain_product(scope, x):
    return x @ np.ones((4, 2)) + scope.parameter("bias", (2,))


def plain_sum(scope, x):
    return x + np.ones(2) + scope.parameter("bias", (1,))


def product(scope, x):
    return x @ scope.parameter("w", (4, 2))


def primitive(scope, x):
    return ad.concatenate(x, scope.parameter("w", (4, 2)), axis=1)


def with_numpy(scope, x):
    return np.reshape(x, (4, -1)) * scope.parameter("w", (1,))


def inside_of_layers(scope, x):
    return nn.Sequential(nn.Dense(4), nn.Residual((nn.Dense(3),)))(scope, x)


MISFITS = {
    plain_product: r"in plain_product \(line \d+ of test_scope.py\): matmul: Input operand 1 has a mismatch",
    plain_sum: r"in plain_sum \(line \d+ of test_scope.py\): operands could not be broadcast together with shapes",
    product: r"in product \(line \d+ of test_scope.py\): matmul: Input operand 1 has a mismatch",
    primitive: r"in primitive \(line \d+ of test_scope.py\): concatenate of shapes \(5, 3\) and \(4, 2\)",
    with_numpy: r"in with_numpy \(line \d+ of test_scope.py\): cannot reshape array of size 15",
    inside_of_layers: r"residual_1: the layers return \(3,\)",
}


@pytest.mark.parametrize("model", MISFITS, ids=lambda model: model.__name__)
def test_a_function_whose_shapes_do_not_fit_is_named(model):
    with pytest.raises(UserError, match=f"^{MISFITS[model]}"):
        outputs_of(model, X)


def test_an_error_of_another_kind_keeps_its_traceback():
    def wrong(scope, x):
        return x * float("many") * scope.parameter("w", (1,))

    def inside(scope, x):
        return nn.Dense(2)(scope, x.tolist())

    with pytest.raises(ValueError, match="could not convert"):
        outputs_of(wrong, X)
    with pytest.raises(AttributeError):
        outputs_of(inside, X)


@pytest.mark.parametrize("stage", ["while the model is built", "in use", "in a recomputed layer"])
def test_parameters_cannot_be_changed_in_place(stage):
    def doubled(scope, x):
        w = scope.parameter("w", (3, 2))
        w *= 2
        return x @ w

    def model(scope, x):
        return nn.Recompute((Kind(doubled),))(scope, x) if "recomputed" in stage else doubled(scope, x)

    use = nn.use({"w": np.ones((3, 2)), "kind_1/w": np.ones((3, 2))})
    with pytest.raises(ValueError, match="read-only"):
        _ = model(use, X) if stage == "in use" else outputs_of(model, X)


class Kind:
    kind = "kind"

    def __init__(self, function):
        self.function = function

    def __call__(self, scope, x):
        return self.function(scope, x)


def test_weights_that_are_missing_are_named():
    model = nn.Sequential(nn.Dense(3), nn.BatchNorm())
    initial = nn.initial_parameters(model, X, 0)
    parameters, running = initial.parameters, initial.running
    parameters["dense_1/wieght"] = parameters.pop("dense_1/weight")
    with pytest.raises(
        UserError, match=r"^dense_1: the model needs 'dense_1/weight', .* did you mean 'dense_1/wieght'"
    ):
        model(nn.use(parameters, running), X)
    parameters["dense_1/weight"] = parameters.pop("dense_1/wieght")
    with pytest.raises(UserError, match=r"^batch_norm_1: the model needs 'batch_norm_1/running_mean', which is not"):
        model(nn.use(parameters), X)
    with pytest.raises(UserError, match=r"^batch_norm_1: the model needs the running moments of 'batch_norm_1'"):
        model(nn.use(parameters, {}), X)

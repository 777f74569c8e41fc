"""Layers, losses and initializers: closed forms and gradients."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.autodiff.primitives.error_function import erfc
from dbp.errors import UserError
from dbp.nn.initializers import AT_A_TIME, INITIALIZERS
from dbp.random import generator
from tests.jobs import run

X = np.random.default_rng(0).standard_normal((5, 3))


def outputs_of(model, x, seed=0):
    initial = nn.initial_parameters(model, x, seed, "float64")
    return initial.parameters, initial.output_shape, model(nn.use(initial.parameters), x)


def test_dense_is_an_affine_map():
    parameters, shape, y = outputs_of(nn.Dense(4), X)
    assert shape == (4,)
    assert {name: p.shape for name, p in parameters.items()} == {"weight": (3, 4), "bias": (4,)}
    np.testing.assert_allclose(y, X @ parameters["weight"] + parameters["bias"])


def test_dense_without_bias():
    assert list(outputs_of(nn.Dense(4, bias=False), X)[0]) == ["weight"]


def test_sequential_names_layers_by_kind_and_number():
    model = nn.Sequential(nn.Flatten(), nn.Dense(4, "relu"), nn.Activation("tanh"), nn.Dense(2))
    parameters, shape, y = outputs_of(model, X.reshape(5, 3, 1))
    assert list(parameters) == ["dense_1/weight", "dense_1/bias", "dense_2/weight", "dense_2/bias"]
    assert shape == (2,)
    hidden = np.tanh(np.maximum(X @ parameters["dense_1/weight"], 0))
    np.testing.assert_allclose(y, hidden @ parameters["dense_2/weight"])


def test_a_function_is_a_model_and_shares_parameters_by_name():
    def tied(scope, x):
        w = scope.parameter("weight", (3, 2))
        return (x @ w) @ ad.transpose(scope.parameter("weight", (3, 2)))

    parameters, shape, y = outputs_of(tied, X)
    assert list(parameters) == ["weight"]
    assert shape == (3,)
    np.testing.assert_allclose(y, X @ parameters["weight"] @ parameters["weight"].T)


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_activations_have_right_derivatives(name):
    ad.check_derivatives(nn.ACTIVATIONS[name], X + 0.05)


def test_activations_by_closed_form():
    x = np.array([[-2.0, 0.5, 3.0]])
    np.testing.assert_allclose(nn.ACTIVATIONS["leaky_relu"](x), [[-0.02, 0.5, 3.0]])
    np.testing.assert_allclose(nn.ACTIVATIONS["silu"](x), x / (1 + np.exp(-x)))
    np.testing.assert_allclose(nn.ACTIVATIONS["softmax"](x), np.exp(x) / np.exp(x).sum())
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(nn.ACTIVATIONS["gelu"](x), 0.5 * x * (1 + np.tanh(inner)))


@pytest.mark.parametrize("x", [np.linspace(-6, 27, 20001), np.linspace(-1, 5, 20001)])
def test_the_error_function_to_the_last_digits(x):
    """Also where one less the error function would have none left."""
    expected = np.array([math.erfc(number) for number in x])
    np.testing.assert_allclose(erfc(x), expected, rtol=1e-15, atol=1e-308)
    np.testing.assert_allclose(erfc(x.astype(np.float32)), expected, rtol=2e-5, atol=1e-36)
    assert erfc(x.astype(np.float32)).dtype == np.float32


def test_the_error_function_at_its_ends():
    np.testing.assert_array_equal(erfc(np.array([np.inf, -np.inf, np.nan, 0.0, 30, -30])), [0, 2, np.nan, 1, 0, 2])
    assert erfc(1) == erfc(1.0) == pytest.approx(math.erfc(1), rel=1e-15)
    assert erfc(np.zeros((0, 3))).shape == (0, 3)


def test_exact_gelu_by_closed_form_far_out_too():
    x = np.array([-30.0, -9, -3, -0.5, 0, 0.7, 4, 20])
    expected = [number / 2 * math.erfc(-number / math.sqrt(2)) for number in x]
    np.testing.assert_allclose(nn.ACTIVATIONS["gelu_exact"](x), expected, rtol=1e-12)


VARIANCES = {
    "zeros": 0,
    "ones": 0,
    "normal": 1,
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
    "orthogonal": 1 / 300,
    "sparse": 15 / 300,
}


def filled(name, shape, stream, dtype="float64"):
    out = np.full(shape, np.nan, dtype)
    INITIALIZERS[name](generator(0, stream), out)
    return out


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_have_their_variance(name):
    values = filled(name, (300, 200), name)
    assert values.var() == pytest.approx(VARIANCES[name], rel=0.05, abs=1e-12)
    assert abs(values.mean() - (name == "ones")) < 0.01


@pytest.mark.parametrize(("shape", "connections"), [((300, 20), 15), ((3, 3, 4, 7), 15), ((6, 5), 6)])
def test_sparse_weights_connect_an_output_with_a_few_inputs(shape, connections):
    w = filled("sparse", shape, "w")
    assert (np.count_nonzero(w.reshape(-1, shape[-1]), axis=0) == connections).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_orthogonal_is_orthogonal(shape):
    q = filled("orthogonal", shape, "q")
    gram = q.T @ q if shape[0] > shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-12)


def drawn_whole(name, rng, inputs, outputs):
    """The same in one piece, as it follows from the definitions."""
    if name in ("zeros", "ones", "normal"):
        return {"zeros": np.zeros, "ones": np.ones, "normal": rng.standard_normal}[name]((inputs, outputs))
    if name == "orthogonal":
        q, r = np.linalg.qr(rng.standard_normal((max(inputs, outputs), min(inputs, outputs))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        return q if inputs >= outputs else q.T
    if name == "sparse":
        weights = np.zeros((inputs, outputs))
        for column in weights.T:
            chosen = rng.permutation(inputs)[:15]
            column[chosen] = rng.standard_normal(len(chosen))
        return weights
    kind, _, distribution = name.partition("_")
    variance = {"glorot": 2 / (inputs + outputs), "he": 2 / inputs, "lecun": 1 / inputs}[kind]
    if distribution == "normal":
        return math.sqrt(variance) * rng.standard_normal((inputs, outputs))
    limit = math.sqrt(3 * variance)
    return rng.uniform(-limit, limit, (inputs, outputs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_weights_are_drawn_in_pieces_with_the_bits_of_the_whole(name, dtype):
    """Of sizes below, at and above those of the pieces, also where the pieces do not come out even."""
    for inputs, outputs in ((3, 5), (AT_A_TIME // 32, 32), (401, 503), (4, 0)):
        whole = drawn_whole(name, generator(0, "bits"), inputs, outputs).astype(dtype)
        np.testing.assert_array_equal(filled(name, (inputs, outputs), "bits", dtype), whole)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory of a process")
def test_a_model_is_tried_without_memory_for_its_parameters():
    """In a process of its own, by the most memory that it has had."""
    outcome = run(sys.executable, "-c", TRIED)
    assert outcome.code == 0, outcome.text
    grown, of_parameters = map(float, outcome.out.split())
    assert of_parameters > 100
    assert grown < 0.15 * of_parameters


TRIED = """
from pathlib import Path
import numpy as np
from dbp.nn import Conv2d, Dense, Flatten, Sequential, initial_parameters
from dbp.parallel import keep_freed_memory
model = Sequential(Conv2d(1024, 3, "relu"), Flatten(), Dense(3000, "relu"), Dense(3000), Dense(10))
np.ones((300, 300)) @ np.ones((300, 300))
keep_freed_memory()  # as an earlier run in this process has done

def most():  # in MB
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6

before = most()
initial = initial_parameters(model, np.zeros((2, 4, 4, 1024), "float32"), 0)
print(most() - before, 4 * sum(np.prod(shape) for shape in initial.shapes.values()) / 1e6)
"""


def test_a_model_may_do_with_parameters_what_cannot_be_done_with_zeros():
    def model(scope, x):
        w = scope.parameter("weight", (3, 2000))
        scale = scope.parameter("scale", (), "ones")
        assert ad.array_of(scale) == 1
        return x @ (w / ad.sqrt(ad.sum_(w * w, axis=0))) / scale  # the weights are too many to be drawn for a trial

    shapes = nn.initial_parameters(model, X, 0).shapes
    assert shapes == {"weight": (3, 2000), "scale": ()}


def test_initial_weights_depend_on_seed_and_name_only():
    a, b = nn.Sequential(nn.Dense(4), nn.Dense(2)), nn.Sequential(nn.Dense(4), nn.Dense(3))
    first, second = outputs_of(a, X)[0], outputs_of(b, X)[0]
    np.testing.assert_array_equal(first["dense_1/weight"], second["dense_1/weight"])
    assert not np.array_equal(first["dense_1/weight"], outputs_of(a, X, seed=1)[0]["dense_1/weight"])


# --- losses -----------------------------------------------------------------------------------------


def test_cross_entropy_by_closed_form():
    z, y = X, np.array([0, 2, 1, 1, 0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nn.CrossEntropy()(z, y), -np.log(p[np.arange(5), y]))
    assert nn.CrossEntropy().measure(z, y)[0].tolist() == (z.argmax(1) == y).tolist()
    np.testing.assert_allclose(nn.CrossEntropy().predict(z)["probabilities"], p)


def test_binary_cross_entropy_by_closed_form():
    z, y = X, (X > 0.3).astype(float)
    p = 1 / (1 + np.exp(-z))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(nn.BinaryCrossEntropy()(z, y), expected)
    np.testing.assert_allclose(nn.BinaryCrossEntropy().measure(z, y)[0], (z > 0) == y)


PROBABILITIES = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]])
LABELS = np.array([0, 2, 1, 1, 0])


def test_cross_entropy_with_probabilities_and_smoothing():
    logs = np.log(np.exp(X) / np.exp(X).sum(axis=1, keepdims=True))
    loss = nn.CrossEntropy()
    np.testing.assert_allclose(loss(X, PROBABILITIES), -(PROBABILITIES * logs).sum(axis=1))
    np.testing.assert_allclose(loss(X, np.eye(3)[LABELS]), loss(X, LABELS))
    smooth = 0.8 * np.eye(3)[LABELS] + 0.2 / 3
    np.testing.assert_allclose(nn.CrossEntropy(0.2)(X, LABELS), loss(X, smooth))
    assert loss.measure(X, PROBABILITIES)[0].tolist() == (X.argmax(1) == PROBABILITIES.argmax(1)).tolist()


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


def test_huber_and_absolute_error_by_closed_form():
    difference = np.array([[0.3, -0.5, 2.0, -4.0]])
    expected = np.array([0.5 * 0.09, 0.5 * 0.25, 1.5 * (2 - 0.75), 1.5 * (4 - 0.75)])
    np.testing.assert_allclose(nn.Huber(1.5)(difference, 0 * difference), [expected])
    np.testing.assert_allclose(nn.MeanAbsoluteError()(difference, 0 * difference), np.abs(difference))


def test_mean_squared_error_by_closed_form():
    y = X[::-1].copy()
    np.testing.assert_allclose(nn.MeanSquaredError()(X, y), (X - y) ** 2)
    np.testing.assert_allclose(nn.MeanSquaredError().measure(X, y)[0], np.abs(X - y))


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
        ("cross_entropy", np.array([0.0, 1.0]), (3,), r"one integer.*float64.*use mean_squared_error"),
        ("cross_entropy", np.array([[0], [1]]), (3,), r"one integer per example.*\(1,\)"),
        (
            "cross_entropy",
            np.array([0]),
            (4, 3),
            r"integers of shape \(4,\).*\(\) per example; is a flatten layer missing",
        ),
        ("cross_entropy", np.array([[0, 1], [1, 3]]), (2, 3), r"from 0 to 2.*at each place, but example 11 has 3"),
        ("cross_entropy", np.array([0]), (), r"one output per class"),
        ("cross_entropy", np.array([[0.5, 0.4]]), (2,), r"add up to 1, but example 10 has"),
        ("kullback_leibler", np.array([[0.5, 0.5], [1.5, -0.5]]), (2,), r"add up to 1, but example 11 has"),
        ("hinge", np.array([[0.5, 0.5]]), (2,), r"targets of hinge must be one integer"),
        ("huber", np.zeros((2, 4)), (3,), r"outputs' shape"),
        ("binary_cross_entropy", np.array([0.0, 1.5]), (1,), r"from 0 to 1, but example 11 has 1.5"),
        ("mean_squared_error", np.array([0.0, np.nan]), (1,), r"finite.*example 11"),
        ("mean_squared_error", np.zeros((2, 4)), (3,), r"outputs' shape \(3,\).*have \(4,\)"),
        ("mean_squared_error", np.array(["a", "b"]), (1,), r"must be numbers"),
    ],
)
def test_targets_that_do_not_fit(loss, targets, shape, message):
    with pytest.raises(UserError, match=message):
        nn.loss_named(loss).check(targets, shape, first=10)


@pytest.mark.parametrize("name", nn.LOSSES)
def test_losses_by_name(name):
    assert nn.loss_named(name).kind == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0), "units must be at least 1, but is 0"),
        (lambda: nn.Dense(3, "rellu"), "unknown activation 'rellu'; did you mean 'relu'"),
        (lambda: nn.Dense(3, initializer="he"), "unknown initializer 'he'"),
        (lambda: nn.Sequential(), "at least one layer"),
        (lambda: nn.loss_named("mse"), "unknown loss 'mse'; did you mean 'mean_squared_error'"),
        (
            lambda: nn.as_loss(abs),
            "loss abs lacks kind, metrics, check, prepare, places, measure, predict; give a name",
        ),
        (lambda: nn.as_loss(None), "loss None lacks .*, predict, __call__; give a name"),
        (lambda: nn.as_loss(nn.Huber), r"loss Huber is a class; make an object of it: Huber\(\)"),
        (lambda: nn.as_model(nn.Dense), r"Dense is a class; make an object of it: Dense\(\.\.\.\)"),
        (lambda: nn.as_model("dense"), r"model must be a layer, a list of layers or a function .* but is 'dense'"),
        (lambda: nn.as_model([nn.Dense]), "Dense is a class"),
        (lambda: nn.CrossEntropy(1.0), "label_smoothing must be at least 0 and below 1, but is 1.0"),
        (lambda: nn.Huber(0.0), "delta must be positive, but is 0.0"),
        (lambda: nn.Hinge(-1.0), "margin must be positive, but is -1.0"),
        (lambda: outputs_of(nn.Flatten(), X), "no parameters"),
        (lambda: outputs_of(lambda s, x: s.parameter("w", (2,)), X), "one output per example"),
        (lambda: outputs_of(lambda s, x: x @ s.parameter("w", (3, 2)) @ s.parameter("w", (2, 3)), X), "asked for as"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_recomputed_layers_give_the_same_bits_and_keep_one_node():
    inner = (nn.Dense(7, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Dense(5), nn.Dropout(0.3))
    plain, again = nn.Sequential(*inner), nn.Recompute(inner)
    found = []
    for layers in (plain, again):

        def model(scope, x, layers=layers):
            return nn.Dense(2)(
                scope.inside("last"), layers(scope.inside("inner"), nn.Dense(4)(scope.inside("first"), x))
            )

        initial = nn.initial_parameters(model, X, 0, "float64")
        leaves = {name: ad.Tensor(p) for name, p in initial.parameters.items()}
        call = nn.call_with(leaves, initial.running, nn.Draw(0, 3, 1))
        outputs = model(nn.Scope(call), X)
        gradients = ad.pullback(ad.sum_(outputs * outputs), np.ones(()), list(leaves.values()))
        found.append((initial.parameters, outputs.value, gradients, call.observed, outputs))
    (names, y, g, seen, _), (names_again, y_again, g_again, seen_again, output) = found
    assert list(names) == list(names_again)
    np.testing.assert_array_equal(y, y_again)
    for one, other in zip(g, g_again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(seen) == list(seen_again) == ["inner/batch_norm_1/"]
    np.testing.assert_array_equal(seen["inner/batch_norm_1/"].variance, seen_again["inner/batch_norm_1/"].variance)
    assert output.inputs[0].primitive.name.startswith("recompute")


def test_running_moments_are_found_among_the_weights_of_a_result():
    model = nn.Sequential(nn.Dense(3), nn.BatchNorm())
    initial = nn.initial_parameters(model, X, 0, "float64")
    parameters, running = initial.parameters, initial.running
    running["batch_norm_1/"].mean += 2
    arrays = parameters | nn.named_arrays(running)
    np.testing.assert_array_equal(model(nn.use(arrays), X), model(nn.use(parameters, running), X))


@pytest.mark.parametrize("loss", [nn.MeanSquaredError(), nn.MeanAbsoluteError(), nn.Huber(), nn.BinaryCrossEntropy()])
def test_outputs_and_targets_of_two_shapes_are_not_paired_up(loss):
    with pytest.raises(ad.ShapeError, match=r"outputs have shape \(3, 1\), but targets \(3,\)"):
        loss(np.ones((3, 1)), np.zeros(3))


# --- models that do not fit -------------------------------------------------------------------------


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
    plain_product: r"in plain_product \(line \d+ of test_initializers.py\): matmul: Input operand 1 has a mismatch",
    plain_sum: r"in plain_sum \(line \d+ of test_initializers.py\): operands could not be broadcast together with",
    product: r"in product \(line \d+ of test_initializers.py\): matmul: Input operand 1 has a mismatch",
    primitive: r"in primitive \(line \d+ of test_initializers.py\): concatenate of shapes \(5, 3\) and \(4, 2\)",
    with_numpy: r"in with_numpy \(line \d+ of test_initializers.py\): cannot reshape array of size 15",
    inside_of_layers: r"residual_1: the layers give \(3,\)",
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

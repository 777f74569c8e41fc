"""Summaries, what neurons add to the error, and what changes of weights do: closed forms, and real jobs."""

import re
import tracemalloc

import h5py
import numpy as np
import pytest

import dbp as package
import dbp.autodiff as ad
from dbp import nn
from dbp.cost.objective import Objective, Shard
from dbp.errors import UserError
from dbp.insight import neurons, summary, what_if
from dbp.insight.record import record
from dbp.insight.summary import parse_shape
from dbp.insight.what_if import parse_changes
from dbp.parallel import Layout, OneProcess, Shards
from tests.jobs import SMALL, dbp, mpirun

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((11, 6)), RNG.integers(0, 3, 11)
WEIGHTS = RNG.random(11)
MODEL = (nn.Dense(7, "relu"), nn.Dense(5, "tanh"), nn.Dense(3))


def weights_of(model, x, seed=0):
    initial = nn.initial_parameters(model, x, seed, "float64")
    noise = np.random.default_rng(1)
    moved = {name: a + 0.1 * noise.standard_normal(a.shape) for name, a in initial.parameters.items()}
    return moved | nn.named_arrays(initial.running)


def cost_of(model, loss, parameters, x, y, weights=None):
    losses = loss(model(nn.use(parameters), x), y)
    w = np.ones(len(x)) if weights is None else weights
    if np.ndim(losses) > w.ndim:
        losses = ad.mean(losses, axis=tuple(range(w.ndim, np.ndim(losses))))
    return ad.sum_(losses * w) / w.sum()


# --- neurons ----------------------------------------------------------------------------------------


def test_logistic_regression_by_the_formula():
    """The delta of an example is (A - Y) / m."""
    labels = (Y > 0).astype(float)
    weights = weights_of(nn.Sequential(nn.Dense(1)), X)
    found = neurons([nn.Dense(1)], "binary_cross_entropy", weights, (X, labels), shards=3)
    a = 1 / (1 + np.exp(-(X @ weights["dense_1/weight"] + weights["dense_1/bias"]))).ravel()
    layer = found["dense_1"]
    np.testing.assert_allclose(layer.signed_sum, [np.sum((a - labels) / len(X))])
    np.testing.assert_allclose(layer.mean_magnitude, [np.mean(np.abs(a - labels))])
    np.testing.assert_allclose(layer.mean_activation, [np.mean(np.log(a / (1 - a)))])
    assert found.cost == pytest.approx(-np.mean(np.log(np.where(labels == 1, a, 1 - a))))
    assert not layer.dead.any()


IMAGES = RNG.standard_normal((9, 7, 7, 2))
CONVOLUTIONS = (nn.Conv2d(3, 3, "relu"), nn.MaxPool2d(2), nn.Conv2d(4, 2, "tanh"), nn.Flatten(), nn.Dense(3))


@pytest.mark.parametrize("shards", [1, 3, 16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("layers", "x"), [(MODEL, X[:9]), (CONVOLUTIONS, IMAGES)], ids=["dense", "convolutions"])
def test_sums_of_deltas_are_differences_of_the_cost(layers, x, weighted, shards):
    """What is added to all z of a unit is what is added to its bias."""
    model, y, w = nn.Sequential(*layers), Y[:9], WEIGHTS[:9] if weighted else None
    parameters = weights_of(model, x)
    found = neurons(model, "cross_entropy", parameters, (x, y, w) if weighted else (x, y), shards)
    assert list(found.layers) == [name.removesuffix("/bias") for name in parameters if name.endswith("bias")]
    for path, layer in found.layers.items():
        for unit, total in enumerate(layer.signed_sum):
            costs = []
            for step in (1e-5, -1e-5):
                bias = parameters[f"{path}/bias"] + step * (np.arange(len(layer.signed_sum)) == unit)
                costs.append(cost_of(model, nn.CrossEntropy(), parameters | {f"{path}/bias": bias}, x, y, w))
            assert total == pytest.approx((costs[0] - costs[1]) / 2e-5, rel=1e-5, abs=1e-9)


def shifted(scope, x):
    """Sequences (examples, 4, 6): two uses of one layer, whose weighted inputs can be shifted place by place."""
    w, shift = scope.parameter("weight", (6, 5)), scope.parameter("shift", (2, 4, 5), "zeros")
    first = scope.neurons(x @ w + shift[0], ad.tanh)
    second = scope.neurons((x * x) @ w + shift[1], ad.relu)
    return (first + second) @ scope.parameter("out", (5, 3))


@pytest.mark.parametrize("mask", [None, "examples", "places"])
def test_sizes_are_those_of_each_example_alone_with_weights_masks_and_several_uses(mask):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((8, 4, 6)), rng.integers(0, 3, (8, 4))
    w = {None: None, "examples": rng.random(8), "places": (rng.random((8, 4)) < 0.6) * 1.0}[mask]
    if w is not None:
        w[2] = 0
    parameters = weights_of(shifted, x)
    found = neurons(shifted, "cross_entropy", parameters, (x, y) if w is None else (x, y, w), shards=3)["model"]

    def loss_of(i, shift):
        losses = nn.CrossEntropy()(shifted(nn.use(parameters | {"shift": shift}), x[i : i + 1]), y[i : i + 1])
        given = 1.0 if w is None else w[i]
        return ad.sum_(losses * given) if mask == "places" else ad.mean(losses) * given

    deltas = np.array([ad.gradient(lambda s, i=i: loss_of(i, s))(parameters["shift"]) for i in range(8)])
    total = 8 if w is None else w.sum()
    np.testing.assert_allclose(found.signed_sum, deltas.sum(axis=(0, 1, 2)) / total, atol=1e-15)
    np.testing.assert_allclose(found.mean_magnitude, np.abs(deltas).sum(axis=(0, 1, 2)) / (total * 8))
    a = np.concatenate([np.tanh(x @ parameters["weight"] + parameters["shift"][0]),
                        np.maximum(x**2 @ parameters["weight"] + parameters["shift"][1], 0)], axis=1)  # fmt: skip
    of_example = np.ones(8) if w is None else w.reshape(8, -1).sum(axis=1)
    np.testing.assert_allclose(found.mean_activation, of_example @ a.mean(axis=1) / total)


def test_dead_units_are_found_and_silent_ones_counted():
    model = nn.Sequential(*MODEL)
    parameters = weights_of(model, X)
    parameters["dense_1/bias"][[1, 4]] = -100
    found = neurons(model, "cross_entropy", parameters, (X, Y, np.arange(11) % 4 > 0))
    z = (X @ parameters["dense_1/weight"] + parameters["dense_1/bias"])[np.arange(11) % 4 > 0]
    np.testing.assert_allclose(found["dense_1"].silent, np.mean(z <= 0, axis=0))
    assert found["dense_1"].dead.tolist() == (z <= 0).all(axis=0).tolist()
    assert {1, 4} <= set(np.flatnonzero(found["dense_1"].dead))
    assert (found["dense_1"].mean_activation[[1, 4]] == 0).all()
    text = str(found)
    assert f"dense_1: 7 units, {found['dense_1'].dead.sum()} dead (1, 4" in text
    assert "dense_2: 5 units, none dead" in text


def test_evaluation_takes_running_moments_and_drops_nothing():
    layers = (nn.Dense(4), nn.BatchNorm(), nn.Dropout(0.9), nn.Dense(3))
    model = nn.Sequential(*layers)
    weights = weights_of(model, X)
    weights["batch_norm_1/running_variance"] *= 4
    found = neurons(model, "cross_entropy", weights, (X, Y))
    plain = nn.Sequential(nn.Dense(4), nn.Dense(3))
    scale = weights["batch_norm_1/scale"] / np.sqrt(4 + 1e-5)
    same = {
        "dense_1/weight": weights["dense_1/weight"] * scale,
        "dense_1/bias": weights["dense_1/bias"] * scale + weights["batch_norm_1/shift"],
        **{n: a for n, a in weights.items() if n.startswith("dense_2")},
    }
    expected = neurons(plain, "cross_entropy", same, (X, Y))
    np.testing.assert_allclose(found["dense_1"].signed_sum, expected["dense_1"].signed_sum * scale)
    lacking = {name: array for name, array in weights.items() if "running" not in name}
    with pytest.raises(UserError, match="the weights lack batch_norm_1/running_mean, which the model needs"):
        neurons(model, "cross_entropy", lacking, (X, Y))


def test_models_that_make_nothing_or_something_wrong_known():
    def silent(scope, x):
        return x @ scope.parameter("weight", (6, 3))

    def wrong(scope, x):
        return scope.neurons(x) @ scope.parameter("weight", (6, 3))

    for model, message in ((silent, "the model makes no neurons known"), (wrong, "depend on parameters")):
        with pytest.raises(UserError, match=message):
            neurons(model, "cross_entropy", weights_of(model, X), (X, Y))


# --- curvature and what-if --------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_products_with_second_derivatives_are_those_of_the_full_cost(shards):
    model, loss = nn.Sequential(nn.Dense(2, "tanh"), nn.Dense(3)), nn.CrossEntropy()
    parameters = weights_of(model, X)
    layout, parts = Layout.of(parameters), Shards(shards)
    objective = Objective(model, loss, layout, OneProcess(), parts, np.dtype("float64"))

    def chunks(number):
        run = parts.of_batch(11, number)
        for i in range(run.start, run.stop, 2):
            rows = slice(i, min(i + 2, run.stop))
            yield Shard(number, X[rows], Y[rows], WEIGHTS[rows])

    def tensors(flat):
        starts = np.cumsum([0, *(np.prod(s, dtype=int) for s in layout.shapes.values())])
        return {
            n: ad.reshape(flat[a:b], shape=s)
            for (n, s), a, b in zip(layout.shapes.items(), starts, starts[1:], strict=False)
        }

    def cost(flat):
        return cost_of(model, loss, tensors(flat), X, Y, WEIGHTS)

    w, v = layout.flatten(parameters, float), RNG.standard_normal(layout.size)
    curvature = objective.evaluated_curvature(w, chunks)
    np.testing.assert_allclose(curvature.gradient(), ad.gradient(cost)(w), atol=1e-12)
    np.testing.assert_allclose(curvature.hessian_product(v), ad.hessian(cost)(w) @ v, atol=1e-12)
    jacobian = ad.jacobian(lambda flat: model(nn.use(tensors(flat)), X))(w)
    p = np.exp(ad.log_softmax(model(nn.use(parameters), X)))
    inner = WEIGHTS[:, None, None] / WEIGHTS.sum() * (p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None])
    expected = np.einsum("nap,nab,nbq,q->p", jacobian, inner, jacobian, v)
    np.testing.assert_allclose(curvature.gauss_newton_product(v), expected, atol=1e-12)


def test_first_and_second_order_are_all_there_is_of_a_quadratic_cost():
    model = nn.Sequential(nn.Dense(2))
    weights = {name: array.astype(np.float32) for name, array in weights_of(model, X).items()}
    changed = {"dense_1/weight": weights["dense_1/weight"] + RNG.standard_normal((6, 2))}
    targets = RNG.standard_normal((11, 2))
    found = what_if(model, "mean_squared_error", weights, changed, (X, targets, WEIGHTS), shards=3)
    z = X @ weights["dense_1/weight"].astype(float) + weights["dense_1/bias"] - targets
    moved = X @ (changed["dense_1/weight"] - weights["dense_1/weight"].astype(float))
    first, second = (WEIGHTS @ part.mean(axis=1) / WEIGHTS.sum() for part in (2 * z * moved, moved**2))
    assert (found.first, found.second) == pytest.approx((first, second), rel=1e-12)
    assert found.first + found.second == pytest.approx(found.real, rel=1e-12)
    assert len(found.changes) == 12


def test_changes_in_words_are_changes_or_new_values_in_their_order():
    now = {"a/w": np.zeros((2, 3), np.float32), "b": np.ones(2)}
    changed = parse_changes(["a/w[1,2]=+0.5", "a/w[1,2]=-0.25", " a/w[0, 1] = 4e-1", "b[0]=0.5", "b[0]=+1"], now)
    np.testing.assert_array_equal(changed["a/w"], [[0, 0.4, 0], [0, 0, 0.25]])
    np.testing.assert_array_equal(changed["b"], [1.5, 1])
    assert not now["a/w"].any()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a/w[0]=1", "a/w has shape (2, 3), so an index is like [0,0], but is [0]"),
        ("a/w=1", "so an index is like [0,0], but is []"),
        ("a/w[0,3]=1", "so indices go up to [1,2], but one is [0,3]"),
        ("a/w[-1,0]=1", "so an index is like [0,0], but is [-1,0]"),
        ("a/w[0,0]=half", "'half' is not a number; write +0.01 for a change or 0.5 for a new value"),
        ("a/w[0,0]=nan", "'nan' is not a number"),
        ("a/w[0,0]=", "'' is not a number"),
        ("a/w[0,0]", "--what-if takes LAYER/PARAMETER[INDEX]=NUMBER"),
        ("a/v[0,0]=1", "unknown parameter 'a/v'; did you mean 'a/w'?"),
    ],
)
def test_wrong_words_for_a_change(word, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_changes([word], {"a/w": np.zeros((2, 3))})


def test_what_if_of_no_change_and_of_far_too_large_a_one():
    model, data = nn.Sequential(nn.Dense(3)), (X, Y)
    weights = weights_of(model, X)
    same = what_if(model, "cross_entropy", weights, {"dense_1/bias": weights["dense_1/bias"] + 0}, data)
    assert str(same) == "nothing changes: the weights have these values already"
    bias = weights["dense_1/bias"] + 1e300 * np.eye(3)[0]
    squares = what_if(model, "mean_squared_error", weights, {"dense_1/bias": bias}, (X, np.zeros((len(X), 3))))
    assert "inf" in str(squares)


def test_what_if_refuses_what_is_no_parameter():
    model, data = nn.Sequential(nn.Dense(3)), (X, Y)
    weights = weights_of(model, X)
    with pytest.raises(UserError, match="unknown parameter 'dense_1/bais'; did you mean 'dense_1/bias'"):
        what_if(model, "cross_entropy", weights, {"dense_1/bais": np.zeros(3)}, data)
    with pytest.raises(UserError, match=r"dense_1/bias has shape \(3,\), but its new values have \(2,\)"):
        what_if(model, "cross_entropy", weights, {"dense_1/bias": np.zeros(2)}, data)
    with pytest.raises(UserError, match=r"inputs of shape \(5,\) do not fit the model: dense_1/weight would have"):
        what_if(model, "cross_entropy", weights, {}, (X[:, :5], Y))


# --- summary ----------------------------------------------------------------------------------------


def rows_of(found):
    return {row.path or row.name: row for row in found.rows}


def test_parameters_and_multiply_adds_by_closed_form():
    layers = [nn.Conv2d(8, 3, "relu", padding="same", groups=2), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(20, "tanh"),
              nn.Dense(10, bias=False)]  # fmt: skip
    found = summary(layers, (9, 9, 4), "cross_entropy", package.optim.Adam(), batch_size=10, shards=3)
    rows = rows_of(found)
    outputs = 9 * 9 * 8
    assert rows["conv2d_1"].shape == (9, 9, 8)
    assert rows["conv2d_1"].parameters == 3 * 3 * 2 * 8 + 8
    assert rows["conv2d_1"].forward == (0, outputs * 3 * 3 * 2 + 2 * outputs)  # the products, bias and ReLU
    assert rows["max_pool2d_1"].shape == (4, 4, 8)
    assert rows["max_pool2d_1"].forward == (0, 4 * 4 * 8)
    assert rows["flatten_1"].forward == (0, 0)
    assert rows["dense_1"].forward == (0, 128 * 20 + 2 * 20)
    assert rows["dense_1"].backward == (0, 2 * 128 * 20 + 3 * 20)  # by inputs and weights; z, bias and tanh
    assert rows["dense_2"].backward == (0, 2 * 20 * 10)
    initial = nn.initial_parameters(nn.Sequential(*layers), np.zeros((2, 9, 9, 4)), 0)
    true = sum(array.size for array in initial.parameters.values())
    assert found.parameters == true == 152 + 128 * 20 + 20 + 200
    assert found.parameter_bytes == 4 * true
    assert (found.vectors, found.shard_sizes) == (2, [3, 3, 4])
    assert found.step_work.forward == 10 * found.work().forward


def test_a_fused_convolution_has_its_own_shape_and_its_pooling_another():
    rows = rows_of(summary([nn.Conv2d(4, 3, "relu"), nn.MaxPool2d(2), nn.GlobalMaxPool()], (7, 7, 1)))
    assert (rows["conv2d_1"].shape, rows["max_pool2d_1"].shape) == ((5, 5, 4), (2, 2, 4))
    assert rows["conv2d_1"].forward.each == 100 * 9 + 2 * 100 + 16


def test_nested_layers_are_indented_and_found_by_path():
    inner = (nn.Dense(6, "relu"), nn.Residual((nn.Dense(6),)))
    found = summary([nn.Dense(6), nn.Residual(inner, shortcut=(nn.Dense(6),), activation="relu")], (4,))
    assert [(row.depth, row.name, row.parameters) for row in found.rows] == [
        (0, "inputs", 0),
        (0, "dense_1", 30),
        (0, "residual_1", 0),
        (1, "dense_1", 42),
        (1, "residual_1", 0),
        (2, "dense_1", 42),
        (1, "shortcut/dense_1", 42),
    ]
    assert [row.forward.each for row in found.rows] == [0, 30, 12, 48, 6, 42, 42]
    assert [line.split("  ")[:3] for line in str(found).splitlines()[6:8]] == [
        ["", "", "dense_1"],
        ["", "shortcut/dense_1", "units 6"],
    ]


def test_recomputed_layers_keep_less_and_run_forward_twice():
    layers = (nn.Dense(50, "tanh"), nn.Dense(50, "tanh"))
    plain, again = (summary([nn.Dense(8), *inner, nn.Dense(2)], (8,)) for inner in (layers, [nn.Recompute(layers)]))
    of_layers = sum(rows_of(plain)[f"dense_{n}"].forward.each for n in (2, 3))
    assert again.parameters == plain.parameters
    assert again.work().forward == plain.work().forward
    assert again.work().backward == plain.work().backward + of_layers
    assert again.activation_bytes < plain.activation_bytes
    assert [row.path for row in again.rows][2:5] == ["recompute_1", "recompute_1/dense_1", "recompute_1/dense_2"]


def test_functions_are_shown_by_the_paths_of_their_parameters():
    def model(scope, x):
        a, b = scope.inside("down"), scope.inside("up")
        h = ad.tanh(x @ a.parameter("weight", (6, 2)))
        y = nn.Sequential(nn.Dense(4, "relu"))(scope.inside("net"), h)
        return ad.einsum(y, b.parameter("weight", (4, 6)), rule="nh,ho->no") + scope.parameter("bias", (6,))

    found = summary(model, (6,), "mean_squared_error")
    rows = [(r.name, r.settings, r.shape, r.parameters, r.forward.each) for r in found.rows]
    assert rows == [
        ("inputs", "", (6,), 0, 0),
        ("down", "matmul, tanh", (2,), 12, 14),
        ("net/dense_1", "units 4, relu", (4,), 12, 16),
        ("up", "einsum", (6,), 24, 24),
        ("(model)", "add", (6,), 6, 6),
        ("loss", "mean_squared_error", (6,), 0, 12),
    ]


MEMORY = {
    "dense": (MODEL, (6,)),
    "convolutions": (CONVOLUTIONS, (7, 7, 2)),
    "winograd": (
        (nn.Conv2d(16, 1), nn.Conv2d(16, 3, "relu"), nn.MaxPool2d(2), nn.GlobalAveragePool(), nn.Dense(3)),
        (14, 14, 1),
    ),
    "normalized": ((nn.BatchNorm(), nn.Dense(9, "gelu"), nn.Dropout(0.5), nn.LayerNorm(), nn.Dense(3)), (6,)),
    "sequences": (
        (nn.Embedding(5, 4), nn.Position(), nn.Attention(2, causal=True), nn.LSTM(3, sequences=False)),
        (6,),
    ),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory_is_what_a_recorded_step_of_any_size_holds(case):
    layers, shape = MEMORY[case]
    found = summary(layers, shape, "cross_entropy", batch_size=37)
    model, inputs = nn.Sequential(*layers), np.zeros((37, *shape), np.float32)
    initial = nn.initial_parameters(model, inputs, 0)
    places = record(model, initial, inputs, nn.CrossEntropy())
    assert found.activation_bytes == sum(place.kept for place in places)
    assert [row.forward.of(37) for row in found.rows] == [place.work.forward for place in places]


def test_memory_is_what_the_process_holds():
    """Measured by the allocator, which knows nothing of graphs."""
    n, model = 3000, nn.Sequential(nn.Dense(64, "tanh"), nn.Dropout(0.5), nn.Dense(64, "relu"), nn.Dense(10))
    found = summary(model, (20,), batch_size=n)
    tracemalloc.start()
    x = np.zeros((n, 20), np.float32)
    parameters = nn.initial_parameters(model, x[:2], 0).parameters
    before = tracemalloc.get_traced_memory()[0] - x.nbytes
    outputs = model(nn.use({k: ad.Tensor(a) for k, a in parameters.items()}, {}, nn.Draw(0, 0, 0)), x)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert outputs.shape == (n, 10)
    assert held == pytest.approx(found.activation_bytes, rel=0.01)


# --- commands ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the digits with a hidden layer of ReLU."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "small.toml"
    config.write_text(f'out = "{folder}/run"\n{SMALL}'.replace("tanh", "relu"))
    outcome = dbp("train", config, "--set", "epochs=1")
    assert outcome.code == 0, outcome.text
    return folder


def figures(path):
    with h5py.File(path) as file:
        found = {f"{layer}/{name}": file[layer][name][:].tobytes() for layer in file for name in file[layer]}
        return found | {key: float(value) for key, value in file.attrs.items()}


def test_neurons_have_the_same_bits_on_any_number_of_ranks(trained, tmp_path):
    words = ("neurons", trained / "run", "dbp:digits-test", "--top", 2, "--out")
    alone = dbp(*words, tmp_path / "1.h5")
    assert alone.code == 0, alone.text
    layers = ("dense_1: 16 units, ", "dense_2: 10 units, none dead")
    lines = alone.out.splitlines()
    assert [line.startswith(layers) for line in lines].count(True) == 2
    assert max(map(len, lines)) <= 100
    with h5py.File(tmp_path / "1.h5") as file:
        assert sorted(file["dense_1"]) == ["dead", "mean_activation", "mean_magnitude", "signed_sum", "silent"]
        strongest = int(np.argmax(file["dense_2/mean_magnitude"]))
        assert file.attrs["examples"] == 359
    assert lines[lines.index(layers[1]) + 2].split()[0] == str(strongest)
    for ranks in (2, 3):
        outcome = mpirun(ranks, "-m", "dbp", *words, tmp_path / f"{ranks}.h5")
        assert outcome.out.splitlines()[:-1] == lines[:-1]
        assert figures(tmp_path / f"{ranks}.h5") == figures(tmp_path / "1.h5")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_if_on_several_ranks(trained):
    changes = ("--what-if", "dense_1/weight[3,7]=+0.01", "--what-if", "dense_2/bias[1]=0.5")
    alone = dbp("neurons", trained / "run", "dbp:digits-test", *changes)
    assert alone.code == 0, alone.text
    assert mpirun(2, "-m", "dbp", "neurons", trained / "run", "dbp:digits-test", *changes).out == alone.out
    lines = {line.split("  ")[0]: line.split()[-2:] for line in alone.out.splitlines() if line}
    assert lines["dense_2/bias[1]"][1] == "0.5"
    now, new = map(float, lines["dense_1/weight[3,7]"])
    assert new - now == pytest.approx(0.01)
    cost = float(lines["now"][-1])
    told = dbp("eval", trained / "run", "dbp:digits-test").out
    assert f"cost {cost:.4f}" in told
    both, real = float(lines["first and second order"][0]), float(lines["real"][0])
    assert both == pytest.approx(real, rel=0.05)
    assert float(lines["real"][1]) == pytest.approx(cost + real)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what-if", "dense_1/wieght[0,0]=1"], "unknown parameter 'dense_1/wieght'; did you mean 'dense_1/weight'?"),
        (["--what-if", "dense_1/bias[0]=1", "--out", "x.h5"], "--out is for the figures of neurons"),
        (["--top", "0"], "--top must be at least 1, but is 0"),
        (["--out", "there.h5"], "there.h5 exists; choose another name or pass --overwrite"),
        (["--out", "nowhere/x.h5"], "nowhere/x.h5 cannot be written: No such file or directory"),
    ],
)
def test_mistakes_are_told_in_one_line(trained, tmp_path, words, message):
    (tmp_path / "there.h5").write_text("kept")
    outcome = dbp("neurons", trained / "run", "dbp:digits-test", *words, cwd=tmp_path)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert message in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.h5"]
    assert (tmp_path / "there.h5").read_text() == "kept"


def test_figures_of_neurons_replace_a_file_only_if_told(trained, tmp_path):
    (tmp_path / "there.h5").write_text("old")
    words = ("neurons", trained / "run", "dbp:digits-test", "--out", "there.h5", "--overwrite")
    assert dbp(*words, cwd=tmp_path).out.endswith("all figures written to there.h5\n")
    assert figures(tmp_path / "there.h5")["examples"] == 359


def test_summary_of_a_config_with_and_without_its_data(trained):
    outcome = dbp("summary", trained / "small.toml")
    assert outcome.code == 0, outcome.text
    (total,) = [line.split() for line in outcome.out.splitlines() if line.startswith("total")]
    assert total[1] == "1,210"
    assert "adam: 2 vectors, one copy a node" in outcome.out
    assert "a shard of 13 examples at a time, of 4 shards" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    missing = ("summary", trained / "small.toml", "--set", "data.train=none.h5")
    assert dbp(*missing, "--input", "8,8").out == outcome.out
    without = dbp(*missing)
    assert (without.code, len(without.err.splitlines())) == (2, 1)
    assert "none.h5 does not exist" in without.err
    assert "such as --input 28,28,1" in without.err


def test_layers_that_do_not_fit_an_example_are_told_in_one_line(trained):
    outcome = dbp(
        "summary",
        trained / "small.toml",
        "--input",
        "8,8,1",
        "--set",
        "model.layers.0={kind='conv2d',filters=2,size=9}",
    )
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "inputs of shape (8, 8, 1) do not fit the model: conv2d_1: a window of size 9 does not fit" in outcome.err
    with pytest.raises(UserError, match=r"in product \(line \d+ of test_neurons.py\): matmul: Input operand 1 has"):
        summary(product, (4,))


def product(scope, x):
    return x @ np.ones((5, 2)) * scope.parameter("w", (1,))


def test_the_shape_of_an_example_in_words():
    assert [parse_shape(text) for text in ("28,28,1", "784", "(8, 8)", "8,")] == [(28, 28, 1), (784,), (8, 8), (8,)]
    for text in ("8,x", "8,0", "", "-3"):
        with pytest.raises(UserError, match="--input takes the shape of one example, such as 28,28,1, but is"):
            parse_shape(text)


def test_wide_tables_break_their_settings_to_fit():
    deep = nn.Residual((nn.Conv2d(64, 3, "leaky_relu", stride=2, padding="same"),), (nn.Conv2d(64, 1, stride=2),))
    lines = str(summary([deep, nn.GlobalAveragePool(), nn.Dense(10)], (224, 224, 3), batch_size=2)).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.split() == ["padding", "same"] for line in lines)

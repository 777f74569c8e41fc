"""Layers that name what they take: values and derivatives beside formulas, names of parameters, masks, mistakes."""

import weakref

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from tests.nn.models import DRAW, inputs, start

Named, Dense = nn.Named, nn.Dense
IMAGE, META = inputs(5, 6, 6, 2), inputs(5, 3, seed=1)
UNET = nn.Graph(
    Named(nn.Conv2d(4, 3, "relu", padding="same"), "wide"),
    nn.MaxPool2d(2),
    nn.Conv2d(6, 3, "relu", padding="same"),
    nn.ConvTranspose2d(4, 2, stride=2),
    Named(nn.Concatenate(), from_=("wide", "conv_transpose2d_1")),
    nn.Conv2d(1, 1),
)
TWO_TOWERS = nn.Graph(
    Named(nn.Flatten(), from_="image"),
    Named(Dense(4, "tanh"), "left"),
    Named(Dense(4, "tanh"), "right", "meta"),
    Named(nn.Concatenate(), "both", ("left", "right")),
    Named(Dense(3), "class", "both"),
    Named(Dense(1), "energy", "both"),
    outputs=["class", "energy"],
)


# --- random graphs ------------------------------------------------------------------------------------

MERGERS = {
    "add": (nn.Add(), lambda x: sum(x[1:], x[0])),
    "multiply": (nn.Multiply(), lambda x: x[0] * x[1]),
    "subtract": (nn.Subtract(), lambda x: x[0] - x[1]),
    "average": (nn.Average(), lambda x: (x[0] + x[1]) / 2),
    "concatenate": (nn.Concatenate(), lambda x: ad.concatenate(*x, axis=-1)),
}
WIDTH = 3


def random_graph(seed):
    """Return layers, the outputs of the model, and the same as steps (name, kind, sources) of plain formulas."""
    rng = np.random.default_rng(seed)
    names, layers, steps = ["a", "b"], [], []

    def append(name, layer, sources, kind):
        layers.append(Named(layer, name, sources))
        steps.append((name, kind, sources))
        names.append(name)

    for number in range(int(rng.integers(2, 6))):
        if rng.random() < 0.5:
            append(f"dense{number}", Dense(WIDTH, "tanh"), (str(rng.choice(names)),), "dense")
        else:
            kind = str(rng.choice([*MERGERS]))
            two = tuple(map(str, rng.choice(names, 2)))
            append(f"merged{number}", MERGERS[kind][0], two, kind)
            append(f"narrow{number}", Dense(WIDTH, "tanh"), (names[-1],), "dense")
            names.remove(f"merged{number}")
    used = {source for _, _, sources in steps for source in sources}
    unused = (*(name for name in names if name not in used), names[-1])
    append("all", nn.Concatenate(), unused, "concatenate")
    append("y", Dense(2), ("all",), "dense")
    shared = nn.Named(nn.Shared("y"), "z", "all")
    return nn.Graph(*layers, shared, outputs={"first": "y", "second": "z"}), steps


def as_formula(steps):
    """Return the same model as a function, which asks for the parameters by their names."""

    def model(scope, x):
        values = dict(x)
        for name, kind, sources in steps:
            given = [values[source] for source in sources]
            if kind == "dense":
                w = scope.parameter(f"{name}/weight", (given[0].shape[-1], WIDTH if name != "y" else 2))
                z = given[0] @ w + scope.parameter(f"{name}/bias", (w.shape[-1],))
                values[name] = z if name == "y" else ad.tanh(z)
            else:
                values[name] = MERGERS[kind][1](given)
        return {"first": values["y"], "second": values["y"]}

    return model


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_agree_with_formulas(seed):
    graph, steps = random_graph(seed)
    formula, x = as_formula(steps), {"a": inputs(4, WIDTH, seed=seed), "b": inputs(4, WIDTH, seed=seed + 100)}
    parameters, _ = start(graph, x)
    along = {name: inputs(*array.shape, seed=7) for name, array in parameters.items()}
    for one, other in zip(*(derivatives(model, parameters, x, along) for model in (graph, formula)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def derivatives(model, parameters, x, along):
    """Return the cost of a model, its gradient, and Hessian and Gauss-Newton products, as a list of arrays."""

    def outputs(p):
        return ad.concatenate(*model(nn.use(p), x).values(), axis=1)

    def loss(y):
        return ad.sum_(ad.sin(y) * y)

    def cost(p):
        return loss(outputs(p))

    value, slope = ad.value_and_gradient(cost)(parameters)
    (hessian,) = ad.hessian_product(cost, (parameters,), (along,))
    (gauss_newton,) = ad.gauss_newton_product(outputs, loss, (parameters,), (along,))
    return [value, *(array for tree in (slope, hessian, gauss_newton) for array in tree.values())]


# --- names and structure ------------------------------------------------------------------------------


def test_a_name_does_not_change_those_of_other_layers():
    plain = nn.initial_parameters(nn.Sequential(Dense(2), Dense(3), Dense(1)), META, 0)
    named = nn.initial_parameters(nn.as_model([Dense(2), Named(Dense(3), "body"), Dense(1)]), META, 0)
    assert [*named.shapes] == [name.replace("dense_2", "body") for name in plain.shapes]
    np.testing.assert_array_equal(named.parameters["dense_3/weight"], plain.parameters["dense_3/weight"])


def test_lists_without_names_stay_sequences():
    assert nn.as_model([Dense(2), Dense(1)]) == nn.Sequential(Dense(2), Dense(1))
    assert isinstance(nn.as_model([Named(Dense(2), "body")]), nn.Graph)


def test_a_convolution_is_fused_with_its_pooling_only_where_nothing_else_takes_it():
    layers = [Named(nn.Conv2d(4, 3, "relu", padding="same"), "wide"), nn.MaxPool2d(2), nn.Flatten(), Dense(2)]
    parameters, _ = start(nn.Graph(*layers), IMAGE)
    apart, fused = nn.Graph(*layers), nn.Sequential(*(getattr(layer, "layer", layer) for layer in layers))
    traces = []
    for model in (apart, fused, UNET):
        found = parameters if model is not UNET else start(UNET, IMAGE)[0]
        renamed = {name.replace("wide", "conv2d_1"): array for name, array in found.items()}
        call = nn.call_with(found if model is not fused else renamed)
        call.trace = []
        traces.append((model(nn.Scope(call), IMAGE), call.trace))
    np.testing.assert_array_equal(traces[0][0], traces[1][0])
    is_fused = [trace[0].outputs is trace[1].outputs for _, trace in traces]
    assert is_fused == [True, True, False]
    assert [(step.name, step.takes) for step in traces[2][1] if step.takes] == [
        ("concatenate_1", ("wide", "conv_transpose2d_1"))
    ]


def test_shapes_of_several_outputs():
    initial = nn.initial_parameters(TWO_TOWERS, {"image": IMAGE, "meta": META}, 0)
    assert initial.output_shape == {"class": (3,), "energy": (1,)}
    assert nn.initial_parameters(UNET, IMAGE, 0).output_shape == (6, 6, 1)
    trial = nn.training_trial(TWO_TOWERS, initial, {"image": IMAGE, "meta": META})
    assert trial.ending == {"class": "", "energy": ""}


def test_one_input_with_a_name_is_the_only_input():
    parameters, _ = start(UNET, IMAGE)
    one, other = (UNET(nn.use(parameters), x) for x in (IMAGE, {"image": IMAGE}))
    np.testing.assert_array_equal(one, other)
    plain = nn.Sequential(Dense(2))
    weights, _ = start(plain, META)
    np.testing.assert_array_equal(plain(nn.use(weights), {"meta": META}), plain(nn.use(weights), META))


def test_a_shared_layer_draws_noise_of_its_own_and_has_one_set_of_parameters():
    tower = nn.Sequential(Dense(4), nn.Dropout(0.5))
    siamese = nn.Graph(Named(tower, "left"), Named(nn.Shared("left"), "right", "inputs"), outputs=["left", "right"])
    parameters, _ = start(siamese, META)
    assert [*parameters] == ["left/dense_1/weight", "left/dense_1/bias"]
    plain = siamese(nn.use(parameters), META)
    np.testing.assert_array_equal(plain["left"], plain["right"])
    noisy = siamese(nn.use(parameters, {}, DRAW), META)
    assert not np.array_equal(noisy["left"] == 0, noisy["right"] == 0)


def test_layers_in_layers_have_names_too():
    inner = [Named(Dense(3), "one"), Named(Dense(3), "two", "inputs"), Named(nn.Add(), "sum", ("one", "two"))]
    model = nn.as_model([nn.Residual(inner), nn.Recompute(inner), Named(nn.Graph(*inner), "nested"), Dense(1)])
    parameters, _ = start(model, META)
    assert {name.rpartition("/")[0] for name in parameters} == {
        *(f"{outer}/{name}" for outer in ("residual_1", "recompute_1", "nested") for name in ("one", "two")),
        "dense_1",
    }
    ad.check_derivatives(
        lambda *arrays: model(nn.use(dict(zip(parameters, arrays, strict=True))), META), *parameters.values()
    )


def test_evaluation_lets_go_of_values_that_nothing_takes_any_more():
    made, living = [], []

    class Copy:
        kind = "copy"

        def __call__(self, scope, x):  # noqa: ARG002
            living.append(sum(value() is not None for value in made))
            y = np.array(x)
            made.append(weakref.ref(y))
            return y

    nn.Graph(*(Named(Copy(), f"n{i}") for i in range(6)))(nn.use({}), META)
    assert living == [0, 1, 1, 1, 1, 1]


# --- masks --------------------------------------------------------------------------------------------


def test_masks_follow_the_values():
    words, beside = inputs(2, 4, 3), inputs(2, 4, 2, seed=1)
    masks = {
        "words": np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool),
        "beside": np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool),
    }
    model = nn.Graph(
        Named(nn.Concatenate(), "side", ("words", "beside")),
        Named(nn.GlobalAveragePool(), "mean"),
        Named(nn.GlobalMaxPool(), "largest", "words"),
        Named(Dense(2), "each", "beside"),
        Named(nn.Concatenate(), "both", ("mean", "largest")),
        outputs=["both", "each"],
    )
    x = {"words": words, "beside": beside}
    parameters, _ = start(model, x)
    scope = nn.use(parameters, mask=masks)
    found = model(scope, x)
    valid = masks["words"] & masks["beside"]
    for i in range(2):
        joined = np.concatenate([words[i], beside[i]], axis=1)[valid[i]]
        largest = words[i][masks["words"][i]].max(axis=0)
        np.testing.assert_allclose(found["both"][i], np.concatenate([joined.mean(axis=0), largest]))
    after = scope.mask_of_outputs(model)
    assert after["both"] is None
    np.testing.assert_array_equal(after["each"], masks["beside"])
    initial = nn.initial_parameters(model, x, 0, mask=masks)
    assert initial.masked_inputs == {"both": None, "each": "beside"}


def test_all_inputs_are_checked_though_one_tower_needs_parameters_first():
    model = nn.Graph(
        Named(Dense(2), "tower", "meta"),
        Named(nn.Embedding(3, 2), "words", "text"),
        nn.GlobalAveragePool(),
        Named(nn.Add(), "sum", ("tower", "global_average_pool_1")),
    )
    x = {"meta": META, "text": np.zeros((5, 4))}
    initial = nn.initial_parameters(model, x, 0)
    assert initial.input_checks == ("words",)
    assert nn.check_inputs(model, x, None, 1) == 1
    with pytest.raises(UserError, match=r"words: .*7"):
        nn.check_inputs(model, {**x, "text": np.full((5, 4), 7.0)}, None, 1)


# --- mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "outputs", "message"),
    [
        ([Named(Dense(1), "y", "y")], None, "y: takes 'y', which is its own name"),
        ([Named(Dense(1), "y", "z"), Named(Dense(1), "z", "y")], None, "y: takes 'z', which comes after it"),
        ([Named(Dense(1), "y"), Named(Dense(1), "y")], None, "2 layers have the name 'y'"),
        ([Named(Dense(1), "dense_2"), Dense(1)], None, "2 layers have the name 'dense_2'"),
        ([Named(Dense(1), "inputs")], None, "no layer can have the name 'inputs'"),
        ([Named(Dense(1), "a"), Named(Dense(1), "b", "inputs")], None, "a: nothing takes its outputs"),
        ([Named(Dense(1), "a"), Dense(1)], ["a"], "dense_2: nothing takes its outputs"),
        ([Named(Dense(1), "body"), Dense(1)], ["bdy"], "outputs: no layer has the name 'bdy'.* did you mean 'body'"),
        ([Named(Dense(1), "a", ("b", "c"))], None, "a: takes one value, but from names 2: b, c; join"),
        ([Named(nn.Shared("body"), "a")], None, "a: shares 'body', but no layer before it has this name$"),
        ([], None, "a model needs at least one layer"),
        ([Dense(1)], "dense_1", "outputs must be a list of names of layers, or a table"),
    ],
)
def test_mistakes_that_the_layers_show(layers, outputs, message):
    with pytest.raises(UserError, match=f"^{message}"):
        nn.Graph(*layers, outputs=outputs)


@pytest.mark.parametrize(
    ("layers", "x", "message"),
    [
        ([Named(Dense(1), "y", "imag")], {"image": META, "meta": META}, "y: takes 'imag', but no .* mean 'image'"),
        ([Named(Dense(1), "y")], {"image": META, "meta": META}, "y: takes the only input, but there are image, meta;"),
        ([Named(Dense(1), "y", "image")], {"image": META, "meta": META}, "no layer takes the input 'meta'; name it in"),
        ([Named(Dense(1), "image", "meta")], {"image": META, "meta": META}, "the input 'image' of the data and a"),
        ([Named(Dense(1), "y", "image")], META, "y: takes 'image', but no input and no layer before it has this name"),
        (
            [Named(Dense(2), "a"), Named(Dense(3), "b"), Named(nn.Add(), "sum", ("a", "b"))],
            META,
            r"sum: takes values of one shape, .* but gets \(2,\) and \(3,\) per example",
        ),
        ([Named(nn.Residual([Named(Dense(2), "a", "x"), Dense(3)]), "r")], META, "r/a: takes 'x', but no input"),
    ],
)
def test_mistakes_that_the_inputs_show(layers, x, message):
    with pytest.raises(UserError, match=f"^{message}"):
        nn.initial_parameters(nn.Graph(*layers), x, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Named(Dense, "y"), "Dense is a class"),
        (lambda: Named(Dense(1), "a/b"), "name must be letters, digits, _ and -, such as body_1, but is 'a/b'"),
        (lambda: Named(Dense(1), from_=3), "from must be a name or a list of names, but is 3"),
        (lambda: Named(Named(Dense(1), "a"), "b"), "a layer has one name, but 'b' is for one that has another: 'a'"),
        (lambda: nn.Residual([Named(Dense(1), "shortcut")]), 'name must not be "shortcut"'),
        (lambda: Named(Dense(1), "y")(nn.use({}), META), r"a layer with a name \('y'\) belongs in a list of layers"),
        (lambda: nn.Sequential(nn.Add())(nn.use({}), META), "add_1: takes several values; name them, such as from ="),
        (lambda: nn.Sequential(Dense(1))(nn.use({}), {"a": META, "b": META}), "the data has several inputs .a, b."),
    ],
)
def test_mistakes_in_names(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()


def test_training_passes_draw_the_same_numbers_in_every_call():
    model = nn.Graph(
        Named(nn.Dropout(0.5), "a"), Named(nn.Dropout(0.5), "b", "inputs"), Named(nn.Add(), "c", ("a", "b"))
    )
    one, other = (model(nn.use({}, {}, DRAW), META) for _ in range(2))
    np.testing.assert_array_equal(one, other)

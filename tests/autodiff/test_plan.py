"""Plans: the bits of the ordinary passes for other numbers, and what cannot be planned."""

import weakref

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff import plan as plan_module

RNG = np.random.default_rng(0)
WEIGHTS = {"w": (6, 5), "b": (5,), "v": (5, 3), "unused": (2,)}


def two_layers(w, b, v, x, y):
    return ad.cross_entropy_block(
        ad.dense_block(ad.dense_block(x, w, b, activation="relu"), v, None, activation="linear"), targets=y
    )


def shared(w, b, v, x, y):
    """Use a leaf, and a value, several times, and reshape what is given."""
    z = ad.tanh(ad.reshape(x, shape=(len(x), 6)) @ w + b) * b
    return ad.logsumexp(ad.concatenate(z @ v, z * z, axis=1) * ad.sum_(v), axis=1) + y


def squares(w, _b, v, x, y):
    return ad.mean(ad.square(ad.softplus(x @ w) @ v - ad.reshape(y, shape=(-1, 1))), axis=1)


def squared_errors(w, b, v, x, y):
    """Use what is given where functions read it in place, and where they need it in fixed memory."""
    z = ad.dense_block(x, w, b, activation="tanh")
    z = ad.concatenate(z, ad.reshape(ad.sum_(z @ v, axis=1), shape=(-1, 1)), axis=1)
    return ad.squared_error_block(z, x, axes=1) + ad.squared_error_block(x, z * x, axes=1) * y


def convolutions(w, b, _v, x, y):
    images = ad.reshape(x, shape=(-1, 3, 2, 1))
    kernel = ad.reshape(w[:4], shape=(2, 2, 1, 5))
    z = ad.convolution_block(images, kernel, b, window=ad.Window((2, 2)), relu_after=True)
    return ad.sum_(ad.reshape(z, shape=(len(x), 10)), axis=1) * y


def example(function, seed, dtype):
    """Return leaves, inputs and targets."""
    rng = np.random.default_rng(seed)
    leaves = {name: ad.Tensor(rng.standard_normal(shape).astype(dtype)) for name, shape in WEIGHTS.items()}
    targets = rng.integers(0, 3, 8) if function is two_layers else rng.standard_normal(8).astype(dtype)
    return leaves, rng.standard_normal((8, 6)).astype(dtype), targets


def recorded(function, leaves, x, y):
    return function(leaves["w"], leaves["b"], leaves["v"], x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [two_layers, shared, squares, squared_errors, convolutions])
def test_other_numbers_have_the_bits_of_the_ordinary_passes(function, dtype):
    leaves, x, y = example(function, 0, dtype)
    end = recorded(function, leaves, x, y)
    plan = ad.Plan(end, list(leaves.values()), [x, y])
    others, x, y = example(function, 1, dtype)
    for leaf, other in zip(leaves.values(), others.values(), strict=True):
        leaf.value[...] = other.value  # as an optimizer changes weights
    g = RNG.standard_normal(8).astype(dtype)
    into = [np.full_like(leaf.value, np.nan) for leaf in leaves.values()]
    for _ in range(2):
        plan.forward([x, y])
        plan.backward(g, into)
    again = recorded(function, leaves, x, y)
    assert plan.value_of(end).tobytes() == again.value.tobytes()
    for found, part in zip(into, ad.pullback(again, g, list(leaves.values())), strict=True):
        assert found.tobytes() == (np.zeros_like(found) if part is None else part).tobytes()


def test_given_arrays_are_not_copied_where_functions_read_them_in_place():
    leaves, x, y = example(two_layers, 0, "float64")
    planned = ad.Plan(recorded(two_layers, leaves, x, y), [*leaves.values()], [x, y])
    once, twice = ([np.empty_like(leaf.value) for leaf in leaves.values()] for _ in range(2))
    planned.forward([x, y])
    planned.backward(np.ones(8), once)
    x *= 2  # between both passes, which shows who reads it then: x^T g is twice as large
    planned.backward(np.ones(8), twice)
    np.testing.assert_array_equal(twice[0], 2 * once[0])


def refusal(function, *given, leaves=None):
    leaves = example(function, 0, "float64")[0] if leaves is None else leaves
    with pytest.raises(ad.UnplannableError) as caught:
        ad.Plan(recorded(function, leaves, *given), list(leaves.values()), given)
    return str(caught.value)


def test_arrays_of_unknown_origin_are_refused():
    _, x, y = example(two_layers, 0, "float64")
    masked = lambda w, b, v, x, y: ad.sum_((x @ w) * (RNG.random((8, 5)) < 0.5), axis=1) * y  # noqa: E731
    indexed = lambda w, b, v, x, y: ad.sum_(w[y % 3], axis=1)  # noqa: E731
    assert "unknown origin" in refusal(masked, x, y)
    assert "unknown origin" in refusal(indexed, x, y)


def test_functions_that_are_called_again_are_refused():
    _, x, y = example(squares, 0, "float64")
    again = lambda w, b, v, x, y: ad.recompute(lambda w: ad.sum_(x @ w, axis=1))(w) * y  # noqa: E731
    assert "something else" in refusal(again, x, y)


def test_large_graphs_and_values_of_several_types_are_refused(monkeypatch):
    leaves, x, y = example(squares, 0, "float64")
    monkeypatch.setattr(plan_module, "MAX_BYTES", 100)
    assert "100 bytes" in refusal(squares, x, y)
    monkeypatch.undo()
    leaves["v"] = ad.Tensor(leaves["v"].value.astype("float32"))
    assert "types" in refusal(squares, x, y, leaves=leaves)


def test_a_view_of_other_strides_is_refused():
    _, x, y = example(squares, 0, "float64")
    transposed = lambda w, b, v, x, y: ad.sum_(ad.transpose(ad.transpose(x @ w) * 2.0), axis=1) * y  # noqa: E731
    assert "contiguous" in refusal(transposed, x, y)


def test_inputs_that_are_the_targets_are_refused():
    leaves, x, _ = example(squares, 0, "float64")
    end = ad.sum_(ad.square(x @ (leaves["w"] @ leaves["v"]) - x[:, :3]), axis=1)
    with pytest.raises(ad.UnplannableError, match="same address"):
        ad.Plan(end, list(leaves.values()), [x, x])


def test_a_constant_stays_as_it_is():
    leaves, x, y = example(squares, 0, "float64")
    constant = RNG.standard_normal(5)
    end = ad.sum_((x @ leaves["w"]) * constant, axis=1)
    plan = ad.Plan(end, list(leaves.values()), [x, y], [constant])
    plan.forward([2 * x, y])
    np.testing.assert_array_equal(plan.value_of(end), 2 * end.value)


def test_arrays_of_a_single_backward_pass_are_not_kept():
    leaves, x, y = example(shared, 0, "float64")
    planned = ad.Plan(recorded(shared, leaves, x, y), [*leaves.values()], (x, y))
    into = [np.empty_like(leaf.value) for leaf in leaves.values()]
    kept = weakref.ref(into[0])
    planned.forward((x, y))
    planned.backward(np.ones(8), into, again=False)
    del into
    assert kept() is None


def test_what_is_computed_outside_of_the_graph_is_computed_again():
    """An array that depends on a value of the graph, and one that depends on what is given."""
    leaves, x, y = example(squares, 0, "float64")
    ends, both, positive = [], [], lambda x: (x[:, :5] > 0, x.sum(axis=1))
    for inputs in (x, 2 * x):
        z = inputs @ leaves["w"]
        of_value = ad.Unrecorded(ad.Tensor(0.0).created, lambda z: (z.max(axis=0),), z, (z.value.max(axis=0),))
        of_given = ad.Unrecorded(ad.Tensor(0.0).created, positive, inputs, positive(inputs))
        ends.append(ad.sum_(ad.where(of_given.arrays[0], z, z - of_value.arrays[0]), axis=1) * of_given.arrays[1])
        both.append([of_value, of_given])
    planned = ad.Plan(ends[0], [*leaves.values()], (x, y), (), both[0])
    planned.forward((2 * x, y))
    assert planned.value_of(ends[0]).tobytes() == ends[1].value.tobytes()
    assert planned.value_of(both[0][1].arrays[1]).tobytes() == both[1][1].arrays[1].tobytes()

"""Summaries: parameters, operations and memory of layers, by closed form."""

import itertools
import re
import tracemalloc

import numpy as np
import pytest

import dbp as package
import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from dbp.insight import summary
from dbp.optim import Adam
from dbp.summary.record import record
from tests.jobs import dbp

MODEL = (nn.Dense(7, "relu"), nn.Dense(5, "tanh"), nn.Dense(3))
CONVOLUTIONS = (nn.Conv2d(3, 3, "relu"), nn.MaxPool2d(2), nn.Conv2d(4, 2, "tanh"), nn.Flatten(), nn.Dense(3))


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
    products, bias_and_relu, pooling = outputs * 3 * 3 * 2, 2 * outputs, 4 * 4 * 8
    assert rows["conv2d_1"].forward == (0, products + bias_and_relu + pooling)
    assert rows["max_pool2d_1"].shape == (4, 4, 8)
    assert rows["max_pool2d_1"].forward == (0, 0)
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
    assert rows["conv2d_1"].forward.per_example == 100 * 9 + 2 * 100 + 16


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
    assert [row.forward.per_example for row in found.rows] == [0, 30, 12, 48, 6, 42, 42]
    assert [line.split("  ")[:3] for line in str(found).splitlines()[6:8]] == [
        ["", "", "dense_1"],
        ["", "shortcut/dense_1", "units 6"],
    ]


def test_normalization_over_the_mini_batch_keeps_the_activations_of_all_shards():
    alone, together = (
        summary([nn.Dense(50), nn.BatchNorm(statistics=statistics), nn.Dense(2)], (8,), batch_size=10, shards=4)
        for statistics in ("shard", "batch")
    )
    assert alone.activation_bytes == sum(row.kept.at(3) for row in alone.rows)
    assert together.activation_bytes == sum(row.kept.at(n) for row in together.rows for n in (2, 3, 2, 3))
    assert "one per rank" in str(alone)
    assert "one per shard" in str(together)
    assert 'all 4 shards at once, for statistics = "batch"; divided by ranks' in str(together)


def test_recomputed_layers_keep_less_and_run_forward_twice():
    layers = (nn.Dense(50, "tanh"), nn.Dense(50, "tanh"))
    plain, again = (summary([nn.Dense(8), *inner, nn.Dense(2)], (8,)) for inner in (layers, [nn.Recompute(layers)]))
    of_layers = sum(rows_of(plain)[f"dense_{n}"].forward.per_example for n in (2, 3))
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
    rows = [(r.name, r.settings, r.shape, r.parameters, r.forward.per_example) for r in found.rows]
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
    recorded = record(model, initial, inputs, nn.CrossEntropy())
    assert found.activation_bytes == sum(row.kept for row in recorded)
    assert [row.forward.at(37) for row in found.rows] == [row.work.forward for row in recorded]


def test_memory_is_what_the_process_holds():
    """The allocator, which knows nothing of graphs, measures the same memory."""
    n, model = 3000, nn.Sequential(nn.Dense(64, "tanh"), nn.Dropout(0.5), nn.Dense(64, "relu"), nn.Dense(10))
    found = summary(model, (20,), batch_size=n)
    x = np.zeros((n, 20), np.float32)
    parameters = nn.initial_parameters(model, x[:2], 0).parameters

    def recorded():
        return model(nn.use({k: ad.Tensor(a) for k, a in parameters.items()}, {}, nn.RandomKey(0, 0, 0)), x)

    recorded()  # so that there is the scratch memory, which stays
    tracemalloc.start()
    x = x.copy()
    before = tracemalloc.get_traced_memory()[0] - x.nbytes
    outputs = recorded()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert outputs.shape == (n, 10)
    assert held == pytest.approx(found.activation_bytes, rel=0.01)


def test_summary_of_a_config_with_and_without_its_data(small):
    outcome = dbp("summary", small)
    assert outcome.code == 0, outcome.text
    (total,) = [line.split() for line in outcome.out.splitlines() if line.startswith("total")]
    assert total[1] == "1,210"
    assert "adam: 2 vectors, one copy per node" in outcome.out
    assert "a shard of 13 examples at a time, of 4 shards" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    missing = ("summary", small, "--set", "data.train=none.h5")
    assert dbp(*missing, "--input", "8,8").out == outcome.out
    without = dbp(*missing)
    assert (without.code, len(without.err.splitlines())) == (2, 1)
    assert "none.h5 does not exist" in without.err
    assert "such as --input 28,28,1" in without.err


def test_layers_that_do_not_fit_an_example_are_told_in_one_line(small):
    outcome = dbp(
        "summary",
        small,
        "--input",
        "8,8,1",
        "--set",
        "model.layers.0={kind='conv2d',filters=2,size=9}",
    )
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "inputs of shape (8, 8, 1) do not fit the model: conv2d_1: a window of size 9 does not fit" in outcome.err
    with pytest.raises(UserError, match=r"in product \(line \d+ of test_model_summary.py\): matmul: Input operand 1"):
        summary(product, (4,))


def product(scope, x):
    return x @ np.ones((5, 2)) * scope.parameter("w", (1,))


def test_settings_stand_below_their_layers_where_the_table_would_be_wider_than_a_terminal():
    deep = nn.Residual((nn.Conv2d(64, 3, "leaky_relu", stride=2, padding="same"),), (nn.Conv2d(64, 1, stride=2),))
    lines = str(summary([deep, nn.GlobalAveragePool(), nn.Dense(10)], (224, 224, 3), batch_size=2)).splitlines()
    assert max(map(len, lines)) <= 80
    below = {above.split()[0]: line for above, line in itertools.pairwise(lines) if line.startswith("      filters")}
    assert below["conv2d_1"] == "      filters 64, size 3, leaky_relu, stride 2, padding same"
    assert lines[0].split() == ["layer", "output", "parameters", "forward", "backward", "kept"]


def test_layers_that_say_what_they_take():
    named, dense = nn.Named, nn.Dense(4)
    tower = nn.Sequential(nn.Flatten(), dense)
    layers = [
        named(tower, "encoder", "left"),
        named(nn.Shared("encoder"), "encoded", "right"),
        named(nn.Multiply(), from_=("encoder", "encoded")),
        named(nn.Dense(1), "loss_of_it"),
    ]
    found = summary(layers, {"left": (3, 2), "right": (3, 2)})
    assert [(row.name, row.settings, row.parameters, row.role) for row in found.rows] == [
        ("left", "", 0, "input"),
        ("right", "", 0, "input"),
        ("encoder", "from left", 0, "layer"),
        ("flatten_1", "", 0, "layer"),
        ("dense_1", "units 4", 28, "layer"),
        ("encoded", "from right; shares encoder", 0, "layer"),
        ("flatten_1", "", 0, "layer"),
        ("dense_1", "units 4", 0, "layer"),
        ("multiply_1", "from encoder, encoded", 0, "layer"),
        ("loss_of_it", "units 1", 5, "layer"),
    ]
    assert found.work().forward == 2 * (6 * 4 + 4) + 4 + (4 + 1)
    with pytest.raises(UserError, match="left=3x2, right=3x2, x=1 do not fit the model: no layer takes the input 'x'"):
        summary(layers, {"left": (3, 2), "right": (3, 2), "x": (1,)})


def test_frozen_parameters_have_no_gradient_no_state_and_no_work_backward():
    model = [nn.Dense(8, "relu"), nn.BatchNorm(), nn.Dense(4)]
    plain, found = (
        summary(model, (6,), "cross_entropy", Adam(), frozen=frozen) for frozen in ((), ("dense_1/*", "batch_norm_1/*"))
    )
    assert (found.parameters, found.trained, found.vector_bytes) == (108, 36, 36 * 4)
    assert plain.trained == plain.parameters
    _, first, norm, last, _ = found.rows
    assert (first.frozen, norm.frozen, last.frozen) == (56, 16, 0)
    assert first.forward == plain.rows[1].forward
    assert (first.backward.at(1), norm.backward.at(1), last.backward.at(1)) == (0, 0, 32 + 2 * 4)
    assert (first.kept.at(1), last.kept.at(1)) == (0, 4 * (8 + 4))  # its inputs and outputs
    text = str(found)
    assert "56 frozen" in text
    assert re.search(r"trained +36 +of 108 parameters; 72 are frozen", text)

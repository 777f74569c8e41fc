"""The benchmarks run, print their tables and write their measurements; the figures are not checked."""

import json
import math
import runpy
import sys

import pytest
import scaling_model
import tables
from cases import CASES
from programs import last_words

from dbp import nn
from tests.jobs import ROOT, run

pytestmark = pytest.mark.slow

COMMANDS = {
    "versus_torch.py": (("--cases", "mlp-small", "--rounds", "1"), "mlp-small"),
    "reduction.py": (("--sizes", "4KiB", "--rounds", "1"), "4KiB"),
    "optimizers.py": (("--methods", "Adam,L-BFGS", "--passes", "3"), "L-BFGS"),
    "faults.py": (("--count", "4", "--kinds", "file calls of a save,changed bytes"), "wrong bits"),
    "equal_bits.py": (("--methods", "sgd", "--jobs", "1,1 divide"), "1,1 divide        1           0"),
    "shards.py": (("--cases", "mlp-small", "--shards", "1,4", "--rounds", "1"), "mlp-small/4"),
    "startup.py": (("--rounds", "1"), "in packages"),
    "first_step.py": (("--sizes", "1MB", "--ranks", "1"), "1MB"),
    "listeners.py": (("--cases", "mlp-small", "--rounds", "1", "--repeats", "3"), "mlp-small"),
    "inference.py": (("--cases", "mlp", "--rounds", "1"), "predict, file"),
    "kernels.py": (("--cases", "mlp-small", "--rounds", "1"), "x86-64-v3"),
    "embeddings.py": (("--cases", "3000-sparse", "--rounds", "1"), "3000-sparse"),
    "spectral.py": (("--cases", "1d-256-all", "--rounds", "1"), "1d-256-all, with backward"),
    "data.py": (("--examples", "600", "--epochs", "2", "--rounds", "1", "--without-torch"), "chunks of 3 MB"),
    "large_data.py": (("--size", "13MB", "--limit", "1GB", "--memory", "4MB"), "resumption: equal"),
    "memory.py": (("--ranks", "1,2", "--parameters", "1e5"), "parameters: a vector has"),
}


def test_methods_on_curves_are_run_once_and_resumed(tmp_path):
    file = tmp_path / "out.json"
    words = (ROOT / "benchmarks" / "optimizers.py", "--problem", "curves", "--images", "200", "--seconds", "1")
    outcome = run(sys.executable, *words, "--methods", "Adam", "--json", file)
    assert outcome.code == 0, outcome.text
    (points,) = (found["points"] for found in json.loads(file.read_text())["curves"]["methods"].values())
    assert points[-1]["squared_error"] < 0.5 * points[0]["squared_error"]
    outcome = run(sys.executable, *words, "--methods", "Adam,L-BFGS", "--json", file)
    assert f"Adam, from {file}" in outcome.err
    methods = json.loads(file.read_text())["curves"]["methods"]
    assert methods["Adam"]["points"] == points
    assert methods["L-BFGS"]["points"][0] == pytest.approx(points[0])  # the same start


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_prints_a_table_and_writes_json(tmp_path, name):
    words, shown = COMMANDS[name]
    outcome = run(sys.executable, ROOT / "benchmarks" / name, *words, "--json", tmp_path / "out.json")
    assert outcome.code == 0, outcome.text
    assert shown in outcome.out
    assert json.loads((tmp_path / "out.json").read_text())["machine"]["cores"] >= 1


def test_what_a_death_costs_is_measured(tmp_path):
    words = ("--parameters", "1e5", "--saves", "2", "--deaths", "1", "--arrays", "100", "--json", tmp_path / "out.json")
    outcome = run(sys.executable, ROOT / "benchmarks" / "checkpoint.py", *words)
    assert outcome.code == 0, outcome.text
    (row,) = json.loads((tmp_path / "out.json").read_text())["sizes"].values()
    recovered = (row["from memory"] + row["from file"]) / 2  # the others are of both deaths, and so is this
    assert 0 < row["noticed"] < row["met"] < recovered


@pytest.mark.parametrize("name", [*COMMANDS, "checkpoint.py", "scaling.py"])
def test_a_folder_that_is_missing_is_found_before_anything_is_measured(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--json", "/nonexistent/out.json"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "benchmarks" / name), run_name="__main__")
    assert caught.value.code == 2
    assert "there is no folder /nonexistent" in capsys.readouterr().err


def parameters_and_outputs(case):
    """Return the number of parameters of dbp's network, and the shape of its outputs for two examples."""
    from dbp_layers import layers_of
    from dbp_steps import data_of

    initial = nn.initial_parameters(nn.as_model(layers_of(case.network)), data_of(case, 2)[0], 0)
    return sum(map(math.prod, initial.shapes.values())), (2, *initial.output_shape)


@pytest.mark.parametrize("name", CASES)
def test_pytorch_has_a_network_of_the_same_size(name):
    pytest.importorskip("torch")
    from torch_layers import model_of, spare_biases
    from torch_steps import cost_of, data_of

    case = CASES[name]
    x, targets = data_of(case, 2)
    model = model_of(case.network, x[:1])
    outputs = model(x)
    assert cost_of(case, outputs, targets).isfinite()
    count = sum(parameter.numel() for parameter in model.parameters()) - spare_biases(case.network)
    assert (count, tuple(outputs.shape)) == parameters_and_outputs(case)


@pytest.mark.parametrize("name", CASES)
def test_jax_has_a_network_of_the_same_size(name):
    jax = pytest.importorskip("jax")
    from jax_layers import Builder
    from jax_steps import data_of

    case = CASES[name]
    for layout in ("NHWC", "NCHW") if case.images else ("NHWC",):
        x = data_of(case, layout)[0][:2]
        parameters, forward = Builder(layout).network(case.network, x)
        count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
        assert (count, jax.eval_shape(forward, parameters, x).shape) == parameters_and_outputs(case)


def test_the_spread_of_rounds_is_of_the_best_peer_in_each_round():
    rounds = [{"dbp": {"a": {"ms": 10}}, "X": {"a": {"ms": x}}, "Y": {"a": {"ms": 30}}} for x in (20, 31)]
    (row,) = tables.spread_table(rounds, ("X", "Y", "Z"), ["a"]).splitlines()[1:]
    assert row.split() == ["a", "10.00-10.00", "20.00-30.00", "2.00-3.00", "X,", "Y"]
    (row,) = tables.spread_table(rounds, ("Z",), ["a"]).splitlines()[1:]
    assert row.split() == ["a", "10.00-10.00", "-", "-"]


def test_the_memory_of_pytorch_in_one_process_is_compared_with_all_ranks():
    results = {
        v: {"a": {"before_mb": 1.0, "grown_mb": mb}} for v, mb in (("dbp", 4.0), ("DDP", 6.0), ("PyTorch", 20.0))
    }
    row = tables.memory_table(results, ["a"], ranks=2).splitlines()[1]
    assert row.split()[-2:] == ["1.50", "2.50"]


def test_the_model_of_scaling_takes_the_larger_of_computing_and_sending():
    model = scaling_model.Model(parameters=1_000_000, compute=0.010, first=0.004, update=0.002, ranks=2)
    assert model.step(1, 1.0, 0.0) == pytest.approx(0.011)
    assert model.bytes(2) == 4e6
    scalars, work = 2 * scaling_model.SCALAR_BYTES, 2 * scaling_model.SCALAR_SECONDS
    sent = model.step(2, bandwidth=1e9, latency=0.0)
    assert sent == pytest.approx(0.011 + scalars / 1e9 + work)  # 4 ms + 4 ms of sending are hidden
    last = 0.001 * scaling_model.BUCKET / 1_000_000  # the rest is updated while that bucket still travels
    expected = 0.004 + 0.040 + last + 0.0004 + scalars / 1e8 + work
    assert model.step(2, bandwidth=1e8, latency=1e-4) == pytest.approx(expected)


def test_the_model_of_scaling_names_what_limits_a_cluster():
    model = scaling_model.Model(parameters=128 * scaling_model.BUCKET, compute=0.1, first=0.05, update=0.0)
    assert model.limit(8192, bandwidth=1e9, latency=1e-6) == "bytes"
    chatty = scaling_model.Model(128 * scaling_model.BUCKET, 0.1, 0.05, 0.0, message=1e-4)
    assert chatty.messages(2) == 4 * 128 * 2 / 2  # each of two hosts finishes half of a bucket
    assert chatty.limit(8192, bandwidth=1e12, latency=1e-6) == "messages"
    assert chatty.step(8192, 1e12, 0.0) > model.step(8192, 1e12, 0.0)
    few = scaling_model.Model(scaling_model.BUCKET, 0.1, 0.05, 0.0)
    assert few.messages(64) == 2 * 63 * (16 / 64 + 1)
    assert few.messages(8192) == 4 * 16 + 2 * (128 + 64)  # in groups of 128
    small = scaling_model.Model(1000, 0.1, 0.05, 0.0, ranks=64)
    assert small.limit(8192, bandwidth=1e10, latency=1e-6) == "scalars"


def test_last_words_name_the_error():
    assert last_words("a\nValueError: b\n-----\n") == "ValueError: b"
    assert last_words("told\n=====\n") == "told"

"""Initial weights: drawn in pieces without memory for trials, by seed and name alone."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.nn.initializers import INITIALIZERS, PIECE
from dbp.random import generator
from tests.jobs import run
from tests.nn.models import outputs_of

X = np.random.default_rng(0).standard_normal((5, 3))


def filled(name, shape, stream, dtype="float64"):
    out = np.full(shape, np.nan, dtype)
    INITIALIZERS[name](generator(0, stream), out)
    return out


def drawn_whole(name, rng, inputs, outputs):
    """Draw the same weights in one piece, as their definitions say."""
    if name in (constants := {"zeros": 0.0, "ones": 1.0, "quarters": 0.25}):
        return np.full((inputs, outputs), constants[name])
    if name == "normal":
        return rng.standard_normal((inputs, outputs))
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
    """Sizes are below, at and above the size of a piece, and no multiples of it."""
    for inputs, outputs in ((3, 5), (PIECE // 32, 32), (401, 503), (4, 0)):
        whole = drawn_whole(name, generator(0, "bits"), inputs, outputs).astype(dtype)
        np.testing.assert_array_equal(filled(name, (inputs, outputs), "bits", dtype), whole)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory of a process")
def test_a_model_is_tried_without_memory_for_its_parameters():
    """A process of its own reports its peak memory."""
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

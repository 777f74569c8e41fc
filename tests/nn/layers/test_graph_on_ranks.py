"""A U-Net with two towers and two heads, from a config alone: the same bits on ranks and after a stop, and exported."""

import h5py
import numpy as np
import pytest

import dbp as package
from tests.jobs import dbp, digest, mpirun

pytestmark = pytest.mark.slow

CONFIG = """
loss = { map = "binary_cross_entropy", energy = { kind = "huber", weight = 0.5 } }
epochs = 2
batch_size = 12
shards = 4
dtype = "float64"

[data]
train = "data.h5"
inputs = { image = "img", other = "other", meta = "x" }
targets = { map = "map", energy = "e" }
weights = { energy = "w" }
standardize = ["inputs.meta", "targets.energy"]

[model]
outputs = { map = "pixels", energy = "energy" }
layers = [
    { kind = "conv2d", filters = 4, size = 3, padding = "same", activation = "relu", name = "encoder", from = "image" },
    { kind = "shared", layer = "encoder", name = "encoded", from = "other" },
    { kind = "average", from = ["encoder", "encoded"], name = "fine" },
    { kind = "max_pool2d", size = 2 },
    { kind = "batch_norm", name = "coarse" },
    { kind = "conv_transpose2d", filters = 4, size = 2, stride = 2, name = "up" },
    { kind = "concatenate", from = ["fine", "up"] },
    { kind = "conv2d", filters = 1, size = 1, name = "pixels" },
    { kind = "global_average_pool", from = "coarse" },
    { kind = "dense", units = 4, activation = "tanh", name = "known", from = "meta" },
    { kind = "dropout", rate = 0.2 },
    { kind = "multiply", from = ["global_average_pool_1", "dropout_1"] },
    { kind = "dense", units = 1, name = "energy" },
]

[optimizer]
kind = "adam"
learning_rate = 1e-2

[checkpoint]
every_steps = 3
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Return the path of the config, beside its data."""
    folder, rng = tmp_path_factory.mktemp("graph"), np.random.default_rng(0)
    images = rng.standard_normal((50, 6, 6, 1))
    with h5py.File(folder / "data.h5", "w") as file:
        file["img"], file["other"] = images, rng.standard_normal((50, 6, 6, 1))
        file["x"] = rng.standard_normal((50, 3))
        file["map"], file["e"] = (images > 0).astype(float), images.mean(axis=(1, 2, 3))
        file["w"] = (rng.random(50) > 0.4).astype(float)
    path = folder / "graph.toml"
    path.write_text(CONFIG)
    return path


def train(config, ranks, out, *words):
    outcome = mpirun(ranks, "-m", "dbp", "train", config, "--out", out, *words)
    assert outcome.code == 0, outcome.text
    return digest(out)


def test_bits_and_exports(config, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: install the extra [onnx]")
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed: install the extra [onnx]")
    whole = train(config, 1, tmp_path / "one")
    assert train(config, 3, tmp_path / "three") == whole
    train(config, 1, tmp_path / "two", "--set", "epochs=1")
    assert train(config, 2, tmp_path / "two") == whole  # resumed
    outcome = dbp("export", tmp_path / "two", tmp_path / "model.onnx")
    assert outcome.code == 0, outcome.text
    with h5py.File(config.parent / "data.h5") as file:
        inputs = {"image": file["img"][:5], "other": file["other"][:5], "meta": file["x"][:5]}
    found = reference.ReferenceEvaluator(str(tmp_path / "model.onnx")).run(None, inputs)
    expected = package.load(tmp_path / "two").predict({"inputs": inputs})
    assert [*expected] == ["map", "energy"]
    for one, other in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=1e-9, atol=1e-9)

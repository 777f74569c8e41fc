"""Models of every kind of layer trained on ranks: the same bits, resumed too, and used for predictions."""

import re

import h5py
import numpy as np
import pytest

from tests.jobs import ROOT, dbp, digest, mpirun

pytestmark = pytest.mark.slow

IMAGES = """
    { kind = "reshape", shape = [8, 8, 1] },
    { kind = "random_flip", axis = "both" }, { kind = "random_shift", size = 1 },
    { kind = "random_rotation", degrees = 10 }, { kind = "gaussian_noise", deviation = 0.1 },
    { kind = "cutout", size = 2 }, { kind = "mixup", alpha = 1.0 }, { kind = "random_crop", size = 8 },
    { kind = "conv2d", filters = 4, size = 3, padding = "same", activation = "relu" },
    { kind = "spectral_conv2d", filters = 4, modes = [2, 3] },
    { kind = "max_pool2d", size = 2 },
    { kind = "batch_norm" }, { kind = "activation", function = "relu" },
    { kind = "dropout", rate = 0.2 },
    { kind = "residual", activation = "relu", layers = [
        { kind = "conv2d", filters = 6, size = 3, padding = 1, groups = 2 }, { kind = "group_norm", groups = 2 },
    ], shortcut = [
        { kind = "conv2d", filters = 6, size = 1 }, { kind = "batch_norm", decay = 0.8, statistics = "batch" },
    ] },
    { kind = "average_pool2d", size = 2 },
    { kind = "conv_transpose2d", filters = 4, size = 2, stride = 2 },
    { kind = "activation", function = "elu" },
    { kind = "separable_conv2d", filters = 4, size = 3, padding = "same" }, { kind = "prelu" },
    { kind = "upsample", factor = 2, method = "bilinear" }, { kind = "rms_norm" },
    { kind = "reshape", shape = [8, 8, 4, 1] },
    { kind = "conv3d", filters = 4, size = 3, padding = "same", activation = "relu" },
    { kind = "max_pool3d", size = 2 },
    { kind = "conv_transpose3d", filters = 3, size = 2, stride = 2, activation = "tanh" },
    { kind = "average_pool3d", size = [1, 2, 2] },
    { kind = "reshape", shape = [-1, 3] },
    { kind = "conv1d", filters = 4, size = 3, padding = "causal", dilation = 2 },
    { kind = "conv_transpose1d", filters = 3, size = 3, stride = 2, padding = 1, output_padding = 1 },
    { kind = "global_average_pool" },
    { kind = "dense", units = 10 },
"""
ROWS = """
    { kind = "residual", layers = [{ kind = "spectral_conv1d", filters = 8, modes = 3 }] },
    { kind = "position", name = "positions" },
    { kind = "max_pool1d", size = 2, name = "pairs" },
    { kind = "attention", heads = 2, from = ["positions", "pairs"] },
    { kind = "attention", heads = 2, causal = true },
    { kind = "layer_norm" },
    { kind = "fourier_features", frequencies = 4, deviation = 0.1 },
    { kind = "residual", layers = [
        { kind = "dense", units = 8, activation = "gelu" }, { kind = "dropout", rate = 0.1 },
    ] },
    { kind = "gru", units = 6, layers = 2, bidirectional = true },
    { kind = "lstm", units = 6, sequences = false },
    { kind = "dense", units = 10 },
"""
NUMBERS = """
    { kind = "reshape", shape = [64] },
    { kind = "embedding", entries = 17, units = 4 },
    { kind = "conv1d", filters = 4, size = 4, stride = 2, activation = "relu" },
    { kind = "max_pool1d", size = 2, padding = "same" },
    { kind = "average_pool1d", size = 4, stride = 2 },
    { kind = "global_max_pool" },
    { kind = "flatten" },
    { kind = "dense", units = 10 },
"""


def write_config(folder, layers, scale="", epochs=1):
    path = folder / "layers.toml"
    path.write_text(
        f'out = "{folder}/run"\nloss = "cross_entropy"\nepochs = {epochs}\nbatch_size = 30\nshards = 4\nseed = 2\n'
        f'[data]\ntrain = "dbp:digits-test"\n{scale}\n[optimizer]\nkind = "adam"\nlearning_rate = 1e-2\n'
        f"[checkpoint]\nevery_steps = 5\nkeep = 100\n[model]\nlayers = [{layers}]\n"
    )
    return path


def train(ranks, config):
    outcome = mpirun(ranks, "-m", "dbp", "train", config)
    assert outcome.code == 0, outcome.text
    return outcome.out


def check_inference(folder, ranks):
    """Check that evaluation and predictions of a run agree with each other and with the targets."""
    evaluated = dbp("eval", folder / "run", "dbp:digits-test")
    assert evaluated.code == 0, evaluated.text
    predicted = mpirun(ranks, "-m", "dbp", "predict", folder / "run", "dbp:digits-test", folder / "out.h5")
    assert predicted.code == 0, predicted.text
    with h5py.File(folder / "out.h5") as file:
        probabilities, classes = file["probabilities"][:], file["classes"][:]
    with h5py.File(ROOT / "dbp" / "data" / "digits-test.h5") as file:
        targets = file["targets"][:]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    cost = -np.mean(np.log(probabilities[np.arange(len(targets)), targets]))
    figures = {"cost": cost, "accuracy": np.mean(classes == targets)}
    for name, value in figures.items():
        assert float(re.search(rf"{name} ([\d.]+)", evaluated.out)[1]) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("layers", "scale"), [(ROWS, ""), (NUMBERS, "scale = 1")], ids=["rows", "numbers"])
def test_layers_of_sequences_train_and_predict(layers, scale, tmp_path):
    assert " 1/1  " in train(2, write_config(tmp_path, layers, scale))
    check_inference(tmp_path, 1)


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """Return the digest after two epochs on one rank, and the running moments."""
    folder = tmp_path_factory.mktemp("one_rank")
    train(1, write_config(folder, IMAGES, epochs=2))
    return digest(folder / "run"), moments_of(folder)


def moments_of(folder):
    """Return the running moments in the newest checkpoint of a run."""
    with h5py.File(max((folder / "run" / "checkpoints").glob("*.h5"))) as file:
        paths = ("batch_norm_1", "residual_1/shortcut/batch_norm_1")
        return {f"{p}/{n}": file[f"model/{p}/{n}"][:] for p in paths for n in ("running_mean", "running_variance")}


def check_equal(folder, one_rank):
    found = moments_of(folder)
    for name, array in one_rank[1].items():
        assert array.any(), name
        assert not (array == 1).all(), name
        np.testing.assert_array_equal(found[name], array)
    assert digest(folder / "run") == one_rank[0]


def test_layers_of_images_train_to_the_same_bits_and_predict(one_rank, tmp_path):
    train(2, write_config(tmp_path, IMAGES, epochs=2))
    check_equal(tmp_path, one_rank)
    check_inference(tmp_path, 2)


def test_dropout_and_running_moments_resume_on_another_number_of_ranks(one_rank, tmp_path):
    config = write_config(tmp_path, IMAGES, epochs=2)
    train(3, config)
    check_equal(tmp_path, one_rank)
    for path in (tmp_path / "run" / "checkpoints").glob("*.h5"):
        if path.name > "step-000000005.h5":
            path.unlink()
    assert "step 5" in train(2, config)
    check_equal(tmp_path, one_rank)

"""Weights with the names and axes of PyTorch: what an import makes of them are the weights again."""

import numpy as np
import pytest

from dbp import Data, load, nn
from dbp.errors import UserError
from dbp.exchange import export, import_weights
from dbp.exchange.pytorch import rules_of
from dbp.exchange.pytorch_rules import same
from dbp.exchange.state_dict import state_dict_of
from tests.jobs import dbp, newest_checkpoint
from tests.small_data import X, Y
from tests.training.fit_runs import run

IMAGES = nn.Sequential(
    nn.Conv2d(6, 3, "relu", groups=3),
    nn.ConvTranspose2d(5, (3, 2), stride=2),
    nn.BatchNorm(),
    nn.Flatten(),
    nn.Dense(4),
)
VOLUMES = nn.Sequential(
    nn.Conv3d(4, (3, 2, 1), groups=2),
    nn.PReLU(),
    nn.ConvTranspose3d(2, (1, 2, 2), stride=2, groups=2),
    nn.Flatten(),
    nn.Dense(2),
)
SEPARABLE = nn.Sequential(
    nn.SeparableConv2d(5, 3, multiplier=2), nn.Upsample(2), nn.Flatten(), nn.PReLU(), nn.RMSNorm()
)
SEQUENCES = nn.Sequential(
    nn.Conv1d(4, 3),
    nn.LSTM(4, layers=2, bidirectional=True, sequences=True),
    nn.Attention(2),
    nn.LayerNorm(),
    nn.GRU(3),
)
FREQUENCIES = nn.Sequential(nn.FourierFeatures(3), nn.SpectralConv2d(3, 2), nn.SpectralConv2d(4, (1, 3)))
TO_A_MEMORY = nn.Graph(
    nn.Named(nn.SpectralConv1d(4, 2), name="queries"),
    nn.Named(nn.Dense(6), name="memory", from_="inputs"),
    nn.Named(nn.Attention(2), from_=("queries", "memory")),
    nn.Named(nn.Attention(2), from_=("attention_1", "queries")),
)


def begun(model, shape):
    """Return initial parameters, and weights of which no two are alike."""
    initial = nn.initial_parameters(model, np.zeros((2, *shape)), 0, "float64")
    shapes, start = initial.shapes_of_weights, 0
    weights = {}
    for name, one in shapes.items():
        weights[name] = np.arange(start, start + np.prod(one), dtype="float64").reshape(one)
        start += weights[name].size
    return initial, weights


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (IMAGES, (8, 6, 3)),
        (SEQUENCES, (9, 6)),
        (FREQUENCIES, (8, 6, 2)),
        (TO_A_MEMORY, (5, 3)),
        (VOLUMES, (4, 3, 2, 4)),
        (SEPARABLE, (4, 5, 3)),
    ],
)
def test_what_comes_back_from_a_state_dict_are_the_weights(model, shape):
    initial, weights = begun(model, shape)
    found = state_dict_of(model, weights, initial, shape)
    rules = rules_of(model, initial, shape)
    for name, array in weights.items():
        rule = rules.get(name, same(name))
        made = rule.make(*(found[theirs.replace("/", ".")] for theirs in rule.names))
        np.testing.assert_array_equal(made, array, err_msg=name)


def test_names_and_axes_are_those_of_pytorch():
    initial, weights = begun(IMAGES, (8, 6, 3))
    found = state_dict_of(IMAGES, weights, initial, (8, 6, 3), steps=7, rename={"conv2d_1": "net.0", "dense_1": "head"})
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes["net.0.weight"] == (6, 1, 3, 3)
    assert shapes["conv_transpose2d_1.weight"] == (6, 5, 3, 2)
    assert shapes["batch_norm_1.running_var"] == (5,)
    assert found["batch_norm_1.num_batches_tracked"] == np.int64(7)
    assert found["net.0.weight"][4, 0, 1, 2] == weights["conv2d_1/weight"][1, 2, 0, 4]
    rows = weights["dense_1/weight"].reshape(13, 8, 5, 4)  # positions before channels
    np.testing.assert_array_equal(found["head.weight"].reshape(4, 5, 13, 8)[3, 2], rows[:, :, 2, 3])


def test_attention_to_a_memory_and_spectra_have_the_names_of_pytorch():
    initial, weights = begun(TO_A_MEMORY, (5, 3))
    found = state_dict_of(TO_A_MEMORY, weights, initial, (5, 3))
    shapes = {name: array.shape for name, array in found.items() if not name.endswith("bias")}
    assert shapes == {
        "queries.weights1": (3, 4, 2),
        "memory.weight": (6, 3),
        "attention_1.q_proj_weight": (4, 4),
        "attention_1.k_proj_weight": (4, 6),
        "attention_1.v_proj_weight": (4, 6),
        "attention_1.out_proj.weight": (4, 4),
        "attention_2.in_proj_weight": (12, 4),
        "attention_2.out_proj.weight": (4, 4),
    }
    assert (
        found["queries.weights1"][2, 1, 0]
        == weights["queries/weight"][0, 2, 1] + 1j * weights["queries/weight"][0, 2, 5]
    )


def test_complex_numbers_are_no_weights_of_real_layers(tmp_path, trained):
    np.savez(tmp_path / "net.npz", **{name: array + 1j for name, array in load(trained[1]).weights.items()})
    with pytest.raises(UserError, match="do not fit the config's model: of another shape: "):
        import_weights(tmp_path / "net.npz", trained[0], tmp_path / "back.h5")


def test_parts_of_an_array_of_pytorch_are_joined_in_the_order_of_the_rules():
    model = nn.GRU(2)
    initial, weights = begun(model, (4, 3))
    found = state_dict_of(model, weights, initial, (4, 3))
    assert found["bias_hh_l0"].tolist() == [0, 0, 0, 0, *weights["candidate_bias"]]
    assert found["bias_ih_l0"].tolist() == weights["bias"].tolist()


@pytest.mark.parametrize("ending", [".npz", ".pt"])
def test_the_command_writes_them_and_says_so(trained, tmp_path, ending):
    out = tmp_path / f"net{ending}"
    outcome = dbp("export", trained[1], out, "--to", "pytorch", "--rename", "dense_1=0")
    assert (outcome.code, outcome.out) == (0, f"{out}: a state_dict of 9 arrays of 485 numbers\n")
    if ending == ".npz":
        import_weights(out, trained[0], tmp_path / "back.h5", origin="pytorch", renames=["0=dense_1"])
        expected = newest_checkpoint(trained[1]).inference_weights()
        for name, array in newest_checkpoint(tmp_path / "back.h5").model.items():
            np.testing.assert_array_equal(array, expected[name])


def test_a_model_in_the_hand_writes_them_too(trained, tmp_path):
    load(trained[1]).export(tmp_path / "net.npz", to="pytorch", rename={"dense_1": "first"})
    assert {"first.weight", "dense_2.bias", "batch_norm_1.running_mean"} <= set(np.load(tmp_path / "net.npz"))


def test_a_model_of_masked_arrays_asks_for_the_shape_of_an_example(tmp_path):
    data = {"inputs": np.ones((4, 5, 3)), "targets": np.ones((4, 1)), "mask": np.ones((4, 5), bool)}
    layers = [nn.GRU(2, sequences=False), nn.Dense(1)]
    trained = run(model=layers, loss="mean_squared_error", data=Data(data), shards=1, batch_size=4)
    with pytest.raises(UserError, match=r"from Python input_shape=\(28, 28, 1\)"):
        trained.export(tmp_path / "net.npz", to="pytorch")
    trained.export(tmp_path / "net.npz", to="pytorch", input_shape=(5, 3))
    assert "gru_1.weight_ih_l0" in np.load(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pt", {}, r"files that end in \.pt are for PyTorch; say so by --to pytorch"),
        ("a.onnx", {"to": "pytorch"}, r"must end in \.safetensors, \.npz or \.pt"),
        ("a.npz", {"to": "torch"}, "unknown form of weights 'torch'; did you mean 'pytorch'"),
        ("a.npz", {"renames": ["dense_1=0"]}, "are for PyTorch; say so by --to pytorch"),
        ("a.npz", {"to": "pytorch", "renames": ["dense_7=0"]}, "--rename dense_7=0 fits none of the weights"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, tmp_path, name, options, message):
    with pytest.raises(UserError, match=message):
        export(trained[1], tmp_path / name, **options)
    assert not (tmp_path / name).exists()


def test_code_has_no_names_in_pytorch(tmp_path):
    found = run(model=lambda scope, x: x @ scope.parameter("weight", (5, 3)), data=(X, Y), epochs=1)
    with pytest.raises(UserError, match=r"whose names in PyTorch are not known; leave out --to pytorch"):
        found.export(tmp_path / "a.npz", to="pytorch")

"""Models as ONNX graphs: every kind of layer and the examples' models give what dbp gives, in onnxruntime."""

import tomllib

import numpy as np
import pytest

from dbp import nn
from dbp.config.from_table import model_from
from dbp.data import ArrayDataset, Scaling
from dbp.errors import UserError
from dbp.exchange import onnx_model
from dbp.exchange.onnx.activations import FUNCTIONS
from dbp.exchange.onnx.layers import KINDS
from dbp.trained.model_on_data import ModelOnData
from tests.jobs import ROOT

onnx = pytest.importorskip("onnx", reason="onnx is not installed: install the extra [onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install the extra [test]")
from onnx.reference import ReferenceEvaluator  # noqa: E402

RNG = np.random.default_rng(0)


def random_weights(model, shape, dtype="float32"):
    """Return weights and running moments of which none has its initial value 0 or 1."""
    initial = nn.initial_parameters(model, np.zeros((2, *shape), dtype), 0, dtype)
    weights = {name: array + 0.1 * RNG.standard_normal(array.shape) for name, array in initial.parameters.items()}
    for name, array in nn.running_arrays(initial.running).items():
        weights[name] = RNG.random(array.shape) + 0.5
    return {name: np.asarray(array, dtype) for name, array in weights.items()}


def inputs_for(shape, examples, entries=None):
    if entries:
        return RNG.integers(0, entries, (examples, *shape)).astype(np.float32)
    return RNG.standard_normal((examples, *shape)).astype(np.float32)


def predicted(model, weights, x, scale=1.0):
    """Return the outputs of dbp predict."""
    data = ArrayDataset(x, np.zeros(len(x)), scale=scale)
    trained = ModelOnData(model, nn.MeanSquaredError(), weights, data, x.dtype)
    return trained.outputs(trained.read(slice(0, len(x))).inputs)


def session(proto):
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def compare(model, shape, entries=None, scale=1.0):
    """Compare the graph's outputs with dbp's for batches of 1 and 5, at other lengths too where it has free ones."""
    model = nn.as_model(model)
    weights = random_weights(model, shape)
    proto = onnx_model(model, weights, shape, Scaling(factor=scale))
    running = session(proto)
    longer = tuple(
        n + 2 * isinstance(name, str) for n, name in zip(shape, running.get_inputs()[0].shape[1:], strict=True)
    )
    for examples, lengths in ((1, shape), (5, longer)):
        x = inputs_for(lengths, examples, entries)
        expected = predicted(model, weights, x, scale)
        (got,) = running.run(["outputs"], {"inputs": x})
        assert got.dtype == expected.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return proto


def operators(proto):
    return [node.op_type for node in proto.graph.node]


IMAGE, SEQUENCE, VOLUME = (9, 8, 4), (7, 6), (5, 6, 4, 2)
LAYERS = {
    "dense": ([nn.Dense(5, "tanh"), nn.Dense(3, bias=False)], (6,)),
    "dense on positions": ([nn.Dense(5, "relu"), nn.Dense(3, bias=False)], SEQUENCE),
    "flatten": ([nn.Flatten(), nn.Dense(3)], IMAGE),
    "flatten after channels first": ([nn.Conv2d(3, 3), nn.Flatten(), nn.Dense(3)], IMAGE),
    "reshape": ([nn.Dense(4), nn.Reshape((4, 7)), nn.Dense(2)], (7, 5)),
    "conv2d": ([nn.Conv2d(6, 3, "relu"), nn.Conv2d(5, (1, 2), bias=False)], IMAGE),
    "conv2d same": ([nn.Conv2d(6, (4, 3), stride=(2, 3), padding="same")], IMAGE),
    "conv2d padding": ([nn.Conv2d(6, 3, padding=2, dilation=(2, 1), groups=2)], IMAGE),
    "conv2d dilated same": ([nn.Conv2d(6, 2, padding="same", dilation=3)], IMAGE),
    "conv2d depthwise": ([nn.Conv2d(8, 3, groups=4)], IMAGE),
    "conv2d fused with its pool": ([nn.Conv2d(6, 3, "relu"), nn.MaxPool2d(2), nn.Conv2d(2, 2)], IMAGE),
    "conv1d": ([nn.Conv1d(5, 3, "elu"), nn.Conv1d(4, 2, stride=2, padding="same")], SEQUENCE),
    "conv1d groups": ([nn.Conv1d(6, 3, padding=1, dilation=2, groups=3)], SEQUENCE),
    "conv1d causal": ([nn.Conv1d(6, 3, padding="causal", stride=2, dilation=2)], SEQUENCE),
    "conv3d": ([nn.Conv3d(4, (3, 2, 1), "relu", stride=(1, 2, 1), padding="same"), nn.Conv3d(2, 2, groups=2)], VOLUME),
    "separable_conv2d": ([nn.SeparableConv2d(5, (3, 2), "relu", 2, "same", multiplier=2)], IMAGE),
    "prelu": ([nn.Conv2d(5, 3), nn.PReLU(), nn.Conv2d(2, 2), nn.PReLU(shared=True)], IMAGE),
    "prelu of rows": ([nn.Dense(5), nn.PReLU(), nn.PReLU(shared=True)], (6,)),
    "rms_norm": ([nn.RMSNorm(epsilon=1e-3), nn.Dense(2)], SEQUENCE),
    "rms_norm after channels first": ([nn.Conv2d(5, 3), nn.RMSNorm()], IMAGE),
    "upsample": ([nn.Conv2d(3, 3), nn.Upsample((2, 3)), nn.Upsample(2, "bilinear")], IMAGE),
    "upsample of sequences": ([nn.Upsample(2), nn.Dense(3), nn.Upsample(3, "linear")], SEQUENCE),
    "upsample of volumes": ([nn.Upsample((2, 1, 3)), nn.Conv3d(2, 1), nn.Upsample(2, "trilinear")], VOLUME),
    "conv_transpose1d same": ([nn.ConvTranspose1d(4, 2, stride=3, padding="same"), nn.Dense(2)], SEQUENCE),
    "conv_transpose3d": ([nn.ConvTranspose3d(3, (2, 3, 1), stride=(1, 2, 2), padding="same")], VOLUME),
    "conv_transpose2d": ([nn.ConvTranspose2d(3, 3, "relu", stride=2)], IMAGE),
    "conv_transpose2d same": ([nn.ConvTranspose2d(3, (3, 4), stride=(2, 3), padding="same")], IMAGE),
    "conv_transpose2d gaps": ([nn.ConvTranspose2d(3, 2, stride=3, padding="same", bias=False)], IMAGE),
    "conv_transpose2d padding": ([nn.ConvTranspose2d(3, 3, stride=2, padding=1)], IMAGE),
    "max_pool2d": ([nn.MaxPool2d(3, 2, padding=1), nn.Dense(2)], IMAGE),
    "max_pool2d same": ([nn.MaxPool2d((2, 3), padding="same"), nn.Dense(2)], IMAGE),
    "average_pool2d": ([nn.AveragePool2d(3, 2, padding=1), nn.Dense(2)], IMAGE),
    "average_pool2d same": ([nn.AveragePool2d((2, 3), 1, padding="same"), nn.Dense(2)], IMAGE),
    "max_pool2d dilated": ([nn.MaxPool2d(2, 1, dilation=(2, 3)), nn.Dense(2)], IMAGE),
    "average_pool2d dilated": ([nn.AveragePool2d(2, 1, padding=1, dilation=(2, 3)), nn.Dense(2)], IMAGE),
    "max_pool3d": ([nn.MaxPool3d((2, 3, 1), padding="same"), nn.Dense(2)], VOLUME),
    "average_pool3d": ([nn.AveragePool3d(3, 2, padding=1), nn.Flatten(), nn.Dense(2)], VOLUME),
    "max_pool1d": ([nn.MaxPool1d(3, 2, padding="same"), nn.Dense(2)], SEQUENCE),
    "average_pool1d": ([nn.AveragePool1d(3, padding=1), nn.Dense(2)], SEQUENCE),
    "global_average_pool": ([nn.Conv2d(5, 2), nn.GlobalAveragePool(), nn.Dense(2)], IMAGE),
    "global_max_pool": ([nn.GlobalMaxPool(), nn.Dense(2)], SEQUENCE),
    "global pool after positions first": ([nn.GRU(4), nn.GlobalMaxPool(), nn.Dense(2)], SEQUENCE),
    "batch_norm": ([nn.Conv2d(5, 3), nn.BatchNorm(epsilon=1e-3), nn.Activation("relu")], IMAGE),
    "batch_norm of rows": ([nn.Dense(5), nn.BatchNorm()], (6,)),
    "layer_norm": ([nn.LayerNorm(epsilon=1e-3), nn.Dense(2)], SEQUENCE),
    "group_norm": ([nn.Conv2d(6, 3), nn.GroupNorm(3), nn.Conv2d(2, 2)], IMAGE),
    "group_norm of rows": ([nn.Dense(6), nn.GroupNorm(2)], (5,)),
    "reshape of any length": ([nn.Reshape((-1, 2)), nn.Dense(2)], (6,)),
    "dropout": ([nn.Dense(4), nn.Dropout(0.5)], (6,)),
    "random_flip": ([nn.RandomFlip(), nn.Dense(2)], IMAGE),
    "random_shift": ([nn.RandomShift(2), nn.Dense(2)], IMAGE),
    "random_crop": ([nn.RandomCrop((3, 4)), nn.Conv2d(4, 2), nn.RandomCrop(2), nn.Dense(2)], IMAGE),
    "random_crop of sequences": ([nn.GRU(4), nn.RandomCrop(3), nn.Dense(2)], SEQUENCE),
    "random_rotation": ([nn.RandomRotation(20), nn.Dense(2)], IMAGE),
    "gaussian_noise": ([nn.Dense(4), nn.GaussianNoise(0.5)], (6,)),
    "cutout": ([nn.Cutout(2), nn.Dense(2)], IMAGE),
    "mixup": ([nn.Mixup(), nn.Dense(2)], IMAGE),
    "position": ([nn.Position(), nn.Dense(2)], SEQUENCE),
    "position of longer sequences": ([nn.Position(length=9), nn.Dense(2)], SEQUENCE),
    "gru": ([nn.GRU(5), nn.GRU(4, sequences=False)], SEQUENCE),
    "lstm": ([nn.LSTM(5), nn.LSTM(4, sequences=False)], SEQUENCE),
    "gru stacked both ways": ([nn.GRU(3, layers=2, bidirectional=True), nn.GRU(2, False, layers=2)], SEQUENCE),
    "lstm stacked both ways": ([nn.LSTM(3, layers=3), nn.LSTM(2, False, bidirectional=True), nn.Dense(2)], SEQUENCE),
    "recurrent sequences": ([nn.LSTM(5), nn.Dense(3), nn.GRU(3)], SEQUENCE),
    "fourier_features": ([nn.FourierFeatures(4, 0.5), nn.Dense(2)], (3,)),
    "fourier_features given": ([nn.FourierFeatures([[0.1] * 6, [0.2] * 6]), nn.Dense(2)], SEQUENCE),
    "spectral_conv1d": ([nn.SpectralConv1d(5, 3), nn.Residual([nn.SpectralConv1d(5, 4)], [nn.Dense(5)])], SEQUENCE),
    "spectral_conv1d of all frequencies": ([nn.SpectralConv1d(3, 5)], (8, 2)),
    "spectral_conv2d": ([nn.SpectralConv2d(3, (4, 5)), nn.SpectralConv2d(2, 2)], IMAGE),
    "attention": ([nn.Attention(2), nn.Attention(3, causal=True, bias=False)], SEQUENCE),
    "attention of a memory": (
        [
            nn.Named(nn.Dense(4), name="queries"),
            nn.Named(nn.MaxPool1d(2), name="memory", from_="inputs"),
            nn.Named(nn.Attention(2, causal=True), from_=("queries", "memory")),
        ],
        SEQUENCE,
    ),
    "residual": ([nn.Residual([nn.Dense(6, "tanh"), nn.Dense(6)], activation="softmax")], SEQUENCE),
    "residual with a shortcut": (
        [nn.Residual([nn.Conv2d(5, 3, stride=2), nn.BatchNorm()], [nn.Conv2d(5, 1), nn.MaxPool2d(3, 2)], "relu")],
        IMAGE,
    ),
    "residual in two orders": ([nn.Residual([nn.Conv1d(6, 3, padding="same")]), nn.Dense(2)], SEQUENCE),
    "recompute": ([nn.Recompute([nn.Dense(4, "silu"), nn.Dense(3)]), nn.Dense(2)], (6,)),
    "sequential inside": ([nn.Sequential(nn.Dense(4), nn.Sequential(nn.Dense(3)))], (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer(name):
    compare(*LAYERS[name])


@pytest.mark.parametrize("sequences", [True, False])
def test_embedding(sequences):
    layers = [nn.Embedding(11, 6), nn.Position(), nn.GRU(4, sequences=sequences), nn.Dense(11)]
    compare(layers, (7,), entries=11)


def test_transposed_convolutions_in_groups():
    """Compare with onnxruntime alone, as the reference of onnx, which computes in float64 too, has no groups here."""
    compare([nn.ConvTranspose1d(4, 3, "tanh", 3, 1, dilation=2, groups=2, output_padding=2)], SEQUENCE)
    compare([nn.ConvTranspose2d(8, (3, 2), "relu", (2, 3), 1, groups=4, output_padding=1)], IMAGE)
    compare([nn.ConvTranspose3d(4, 2, groups=2)], VOLUME)


def test_a_layer_as_the_whole_model():
    compare(nn.Dense(3), (6,))


@pytest.mark.parametrize("function", nn.ACTIVATIONS)
@pytest.mark.parametrize("shape", [(6,), IMAGE])
def test_every_activation_in_both_orders(function, shape):
    layers = [nn.Activation(function), nn.Dense(4)] if shape == (6,) else [nn.Conv2d(5, 3, function)]
    compare(layers, shape)


def test_nothing_is_left_out():
    assert set(KINDS) == {*nn.LAYERS.values(), nn.Sequential, nn.Graph} - {nn.Shared}  # which is resolved in a Graph
    assert FUNCTIONS.keys() == nn.ACTIVATIONS.keys()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_the_models_of_the_examples(path):
    shape = (28, 28) if "fashion" in path.stem else (8, 8)
    compare(model_from(tomllib.loads(path.read_text())), shape, scale=1 / 16)


@pytest.mark.parametrize("name", LAYERS)
def test_float64_by_the_reference_of_onnx(name):
    layers, shape = LAYERS[name]
    model = nn.as_model(layers)
    weights = random_weights(model, shape, "float64")
    proto = onnx_model(model, weights, shape)
    onnx.checker.check_model(proto, full_check=True)
    x = RNG.standard_normal((2, *shape))
    # the reference knows no layer normalization in float64, onnxruntime no convolution
    running = session(proto) if name == "layer_norm" else ReferenceEvaluator(proto)
    (got,) = running.run(None, {"inputs": x})
    np.testing.assert_allclose(got, predicted(model, weights, x), rtol=1e-9, atol=1e-9)
    assert got.dtype == np.float64


# --- the graph --------------------------------------------------------------------------------------


def test_images_are_turned_once_at_each_end():
    layers = [
        nn.Conv2d(4, 3, "relu", padding="same"),
        nn.BatchNorm(),
        nn.Residual([nn.Conv2d(4, 3, padding="same"), nn.BatchNorm()], [nn.Conv2d(4, 1)], "silu"),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.GroupNorm(2),
    ]
    proto = compare(layers, IMAGE)
    found = operators(proto)
    assert [found[0], found[-1]] == ["Transpose", "Transpose"]
    assert found.count("Transpose") == 2


def test_sequences_are_turned_once_at_each_end():
    assert operators(compare([nn.GRU(5), nn.LSTM(4), nn.GRU(3)], SEQUENCE)).count("Transpose") == 2


def test_global_pooling_turns_nothing_back():
    found = operators(compare([nn.Conv2d(4, 3), nn.GlobalAveragePool(), nn.Dense(2)], IMAGE))
    assert found == ["Transpose", "Conv", "ReduceMean", "Gemm"]


def test_names_axes_and_metadata():
    weights, scaling = random_weights(nn.Sequential(nn.Dense(3)), (6,)), Scaling(factor=0.5)
    proto = onnx_model([nn.Dense(3)], weights, (6,), scaling, {"config": "1"})
    value = proto.graph.input[0]
    assert (value.name, proto.graph.output[0].name) == ("inputs", "outputs")
    assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == ["examples", 6]
    assert {"dense_1/weight", "dense_1/bias"} < {array.name for array in proto.graph.initializer}
    assert {p.key: p.value for p in proto.metadata_props}.items() >= {"config": "1"}.items()
    assert "dbp_version" in {p.key for p in proto.metadata_props}


# --- refused ----------------------------------------------------------------------------------------


def test_code_of_the_users_own_is_refused():
    def mine(scope, x):
        return x @ scope.parameter("weight", (x.shape[-1], 3))

    class Mine(nn.Dense):
        kind = "mine"

    with pytest.raises(UserError, match=r"Python code '.*mine', which cannot be put into ONNX"):
        onnx_model(mine, {"weight": np.zeros((6, 3), np.float32)}, (6,))
    weights = random_weights(nn.Sequential(Mine(3)), (6,))
    with pytest.raises(UserError, match=r"contains at 'mine_1', the Python code '.*Mine'"):
        onnx_model([Mine(3)], weights, (6,))


def test_an_activation_of_the_users_own_is_refused(monkeypatch):
    monkeypatch.setitem(nn.ACTIVATIONS, "mine", np.tanh)
    weights = random_weights(nn.Sequential(nn.Dense(3, "mine")), (6,))
    with pytest.raises(UserError, match="dense_1: activation 'mine' is your own function"):
        onnx_model([nn.Dense(3, "mine")], weights, (6,))


def test_what_is_too_large_for_a_file_is_refused(monkeypatch):
    monkeypatch.setattr("dbp.exchange.onnx.model.MAX_BYTES", 50)
    weights = random_weights(nn.Sequential(nn.Dense(3)), (6,))
    with pytest.raises(UserError, match=r"at most 50 bytes of weights, but the model has 84; export them as \.safet"):
        onnx_model([nn.Dense(3)], weights, (6,))


def test_weights_of_another_model_are_refused():
    weights = random_weights(nn.Sequential(nn.Dense(3)), (6,))
    with pytest.raises(UserError, match=r"inputs of shape \(5,\): 'dense_1/weight' has shape \(6, 3\)"):
        onnx_model([nn.Dense(3)], weights, (5,))

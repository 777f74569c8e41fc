"""Lengths that ONNX graphs leave free: which ones, under what names, and data of unequal lengths."""

import h5py
import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.data import Scaling
from dbp.errors import UserError
from dbp.exchange import export, onnx_model
from dbp.exchange.onnx.free_lengths import STEPS

onnx = pytest.importorskip("onnx", reason="onnx is not installed: install the extra [onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install the extra [test]")

HALVED = nn.Sequential(nn.Conv2d(2, 3, padding="same", stride=2), nn.Upsample(2))
U_NET = [nn.Conv2d(2, 3, padding="same"), nn.Residual([nn.MaxPool2d(4), nn.Upsample(4)]), nn.Residual([HALVED])]
SEQUENCES = [nn.Embedding(9, 4), nn.Position(length=7), nn.Conv1d(4, 3, padding="causal"), nn.LSTM(3), nn.Dense(9)]


def weights_of(model, shapes):
    zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in shapes.items()}
    x = zeros if set(shapes) != {"inputs"} else zeros["inputs"]
    return nn.initial_parameters(nn.as_model(model), x, 0).parameters


def dimensions(model, shape, **how):
    """Return the dimensions of each input and output after that of the examples."""
    shapes = shape if isinstance(shape, dict) else {"inputs": shape}
    graph = onnx_model(model, weights_of(model, shapes), shape, **how).graph
    found = {}
    for value in (*graph.input, *graph.output):
        first, *others = [d.dim_param or d.dim_value or "?" for d in value.type.tensor_type.shape.dim]
        assert first == "examples"
        found[value.name] = others
    return found


@pytest.mark.parametrize(
    ("model", "shape", "inputs", "outputs"),
    [
        (SEQUENCES, (7,), ["length"], ["length", 9]),
        ([nn.Embedding(9, 4), nn.Position(), nn.Dense(2)], (7,), [7], [7, 2]),
        ([nn.GRU(3, sequences=False), nn.Dense(2)], (7, 4), ["length", 4], [2]),
        (
            [nn.Attention(2, causal=True), nn.LSTM(3, layers=2, bidirectional=True)],
            (7, 4),
            ["length", 4],
            ["length", 6],
        ),
        ([nn.FourierFeatures(2), nn.SpectralConv1d(3, 2)], (7, 4), ["length", 4], ["length", 3]),
        ([nn.SpectralConv2d(3, 2)], (7, 5, 4), ["height", "width", 4], ["height", "width", 3]),
        ([nn.Flatten(), nn.Dense(2)], (7, 4), [7, 4], [2]),
        ([nn.Conv1d(3, 2, stride=2, padding="same")], (7, 4), ["length", 4], ["?", 3]),
        ([nn.Conv1d(3, 2, stride=3, padding="same", dilation=2)], (7, 4), [7, 4], [3, 3]),
        ([nn.Reshape((-1, 2)), nn.Dense(3)], (8,), ["length"], ["?", 3]),
        (U_NET, (8, 16, 2), ["height", "width", 2], ["height", "width", 2]),
        ([nn.Conv2d(2, 3), nn.RandomCrop(2)], (8, 8, 1), [8, 8, 1], [2, 2, 2]),
        ([nn.Reshape((4, 2, 1)), nn.Conv2d(3, (1, 2)), nn.GlobalMaxPool()], (4, 2), [4, 2], [3]),
        ([nn.Conv3d(3, 1), nn.AveragePool3d((1, 1, 2))], (3, 4, 4, 1), ["depth", "height", "width", 1], None),
    ],
)
def test_lengths_are_free_where_model_and_weights_are_right_for_others(model, shape, inputs, outputs):
    found = dimensions(model, shape)
    assert found["inputs"] == inputs
    assert found["outputs"] == (outputs or ["depth", "height", "?", 3])


@pytest.mark.parametrize("lengths", [(8, 16), (16, 24)])
def test_a_graph_works_for_images_of_other_sizes(lengths):
    parameters = weights_of(U_NET, {"inputs": (8, 16, 2)})
    proto = onnx_model(U_NET, parameters, (8, 16, 2))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((3, *lengths, 2)).astype(np.float32)
    expected = nn.as_model(U_NET)(nn.use(parameters), x)
    np.testing.assert_allclose(session.run(None, {"inputs": x})[0], expected, rtol=1e-5, atol=1e-5)


def test_numbers_for_each_position_fix_its_length():
    model = [nn.Conv1d(3, 3, padding="same")]
    assert dimensions(model, (5, 2), scaling=Scaling(factor=np.ones(2) / 2))["inputs"] == ["length", 2]
    assert dimensions(model, (5, 2), scaling=Scaling(factor=np.ones((5, 1)) / 2))["inputs"] == [5, 2]
    assert dimensions(model, (5, 2), target_scaling=Scaling(center=np.ones((5, 3))))["outputs"] == [5, 3]


def test_lengths_of_several_inputs():
    """Check that lengths which must be equal are free together, and have one name."""
    one, other = nn.Named(nn.GRU(3), "one", "left"), nn.Named(nn.GRU(3), "other", "right")
    together = [one, other, nn.Named(nn.Add(), "sum", ("one", "other"))]
    assert dimensions(together, {"left": (5, 2), "right": (5, 4)}) == {
        "left": ["left_length", 2],
        "right": ["left_length", 4],
        "outputs": ["left_length", 3],
    }
    last = [nn.Named(nn.GlobalMaxPool(), f"last_{name}", name) for name in ("one", "other")]
    apart = [one, other, *last, nn.Named(nn.Concatenate(), "both", ("last_one", "last_other"))]
    assert dimensions(apart, {"left": (5, 2), "right": (5, 4)}) == {
        "left": ["left_length", 2],
        "right": ["right_length", 4],
        "outputs": [6],
    }


def test_every_step_to_another_length_is_tried(monkeypatch):
    """Check that a length is fixed as soon as one step leads to another graph."""
    monkeypatch.setattr("dbp.exchange.onnx.free_lengths.STEPS", (3, 6, -3))  # so that the windows lie alike
    assert dimensions([nn.Conv1d(3, 2, stride=3, padding="same", dilation=2)], (7, 4))["inputs"] == ["length", 4]
    assert {1, 2, 3} < set(STEPS)


def write_sequences(path):
    rng = np.random.default_rng(0)
    begins = np.concatenate([[0], np.cumsum(rng.integers(2, 6, 20))])
    with h5py.File(path, "w") as file:
        file["x"], file["begins"] = rng.standard_normal((begins[-1], 3)), begins
        file["y"] = rng.integers(0, 2, 20)
        file["padded"], file["there"] = np.zeros((20, 5, 3)), np.arange(5) < np.diff(begins)[:, None]


def train(tmp_path, layers, **data):
    write_sequences(tmp_path / "data.h5")
    how = {"optimizer": dbp.optim.SGD(0.1), "epochs": 0, "batch_size": 10, "out": str(tmp_path / "run"), "quiet": True}
    columns = dbp.Data(train=str(tmp_path / "data.h5"), targets="y", **data)
    dbp.fit(model=layers, loss="cross_entropy", data=columns, **how)


def test_sequences_of_unequal_length_need_no_length_to_be_given(tmp_path):
    train(tmp_path, [nn.GRU(4, sequences=False), nn.Dense(2)], inputs="x", offsets="begins")
    assert "inputs of shape (examples, length, 3) that" in export(tmp_path / "run", tmp_path / "out.onnx")


def test_a_model_for_one_length_of_data_with_masks_needs_it_to_be_given(tmp_path):
    train(tmp_path, [nn.Flatten(), nn.Dense(2)], inputs="padded", mask="there")
    with pytest.raises(UserError, match=r"masked positions, or unequal lengths, .* as in --input 28,28,1$"):
        export(tmp_path / "run", tmp_path / "out.onnx")
    assert "(examples, 5, 3)" in export(tmp_path / "run", tmp_path / "out.onnx", input_shape=(5, 3))

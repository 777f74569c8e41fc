"""Models of named layers as ONNX graphs: several inputs and outputs by name give in onnxruntime what dbp gives."""

import numpy as np
import pytest

from dbp import nn
from dbp.data import Scaling
from dbp.exchange import onnx_model
from dbp.named_arrays import all_of, shapes_of
from tests.exchange.test_onnx import operators, session
from tests.nn.models import inputs, start

Named, Dense = nn.Named, nn.Dense
IMAGE, META = (inputs(4, *shape).astype(np.float32) for shape in ((6, 6, 2), (3,)))
CONV = nn.Conv2d(4, 3, "relu", padding="same")
UNET = nn.as_model(
    [
        Named(CONV, "wide"),
        nn.MaxPool2d(2),
        CONV,
        nn.ConvTranspose2d(4, 2, stride=2),
        Named(nn.Concatenate(), from_=("wide", "conv_transpose2d_1")),
        nn.Conv2d(1, 1),
    ]
)
MERGED = nn.Graph(
    Named(CONV, "a"),
    Named(CONV, "b", "inputs"),
    Named(nn.GlobalAveragePool(), from_="b"),
    Named(nn.Reshape((1, 1, 4))),
    Named(nn.Multiply(), "scaled", ("a", "reshape_1")),
    Named(nn.Average(), "mean", ("scaled", "a", "b")),
    Named(nn.Subtract(), "less", ("mean", "b", "reshape_1")),
    Named(nn.Concatenate(axis=1), "tall", ("less", "b")),
    nn.Residual([Named(nn.Conv2d(4, 1), "one"), Named(nn.Add(), "sum", ("inputs", "one"))]),
)
TWO_TOWERS = nn.Graph(
    Named(nn.Sequential(nn.Flatten(), Dense(4, "tanh")), "tower", "image"),
    Named(Dense(4, "tanh"), "beside", "meta"),
    Named(nn.Add(), "both", ("tower", "beside")),
    Named(nn.Dropout(0.5), "again"),
    Named(Dense(3), "class"),
    Named(nn.Shared("class"), "twice", "both"),
    outputs={"class": "class", "meta": "twice", "same": "class", "hidden": "again"},
)


def compare(model, x, **scalings):
    """Compare outputs for one example and for all; return the session and the graph."""
    weights = {name: np.float32(array) for name, array in start(model, x, "float32")[0].items()}
    proto = onnx_model(model, weights, shapes_of(x), **scalings)
    running = session(proto)
    by_name = x if isinstance(x, dict) else {"inputs": x}
    factor = {name: scaling.factor for name, scaling in scalings.get("scaling", {}).items()}
    for count in (1, 4):
        few = {name: array[:count] for name, array in by_name.items()}
        scaled = {name: np.float32(array * factor.get(name, 1.0)) for name, array in few.items()}
        expected = all_of(model(nn.use(weights), scaled if isinstance(x, dict) else scaled["inputs"]))
        for one, other in zip(running.run(None, few), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
    return running, proto


@pytest.mark.parametrize("model", [UNET, MERGED], ids=["unet", "merged"])
def test_one_input_and_one_output(model):
    found = operators(compare(model, IMAGE)[1])
    assert found.count("Transpose") == (2 if model is UNET else 3)  # a reshape takes dbp's order


def test_several_inputs_and_outputs_have_their_names():
    x = {"image": IMAGE, "meta": META}
    scaling = {"image": Scaling(factor=0.5)}
    running, _ = compare(TWO_TOWERS, x, scaling=scaling)
    assert [i.name for i in running.get_inputs()] == ["image", "meta"]
    assert [i.name for i in running.get_outputs()] == ["class", "meta_output", "same", "hidden"]


def test_targets_are_in_the_units_of_the_data():
    model = nn.Graph(Named(Dense(2), "a"), Named(Dense(1), "b", "inputs"), outputs=["a", "b"])
    weights = {name: np.float32(array) for name, array in start(model, META, "float32")[0].items()}
    undone = {"b": Scaling(center=np.float32(-3.0), factor=np.float32(0.5))}
    running = session(onnx_model(model, weights, (3,), target_scaling=undone))
    expected = model(nn.use(weights), META)
    found = running.run(None, {"inputs": META})
    np.testing.assert_allclose(found[0], expected["a"], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected["b"] / 0.5 - 3, rtol=1e-5)

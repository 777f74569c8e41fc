"""Transposed convolutions: the adjoints of convolutions of the same settings, with bias and activation."""

import numpy as np
import pytest

from dbp import nn
from tests.nn.models import inputs, run


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        ({"size": 3}, (5, 6)),
        ({"size": (2, 4), "stride": (1, 3)}, (4, 13)),
        ({"size": 3, "stride": 2, "padding": 1}, (5, 7)),
        ({"size": 3, "stride": 2, "padding": "same"}, (6, 8)),
        ({"size": 4, "stride": 2, "padding": "same"}, (6, 8)),
        ({"size": 2, "stride": 3, "padding": "same"}, (9, 12)),
        ({"size": 5, "padding": "same"}, (3, 4)),
        ({"size": 3, "stride": 2, "padding": 1, "dilation": 2, "groups": 2, "output_padding": (0, 1)}, (7, 10)),
        ({"size": 4}, (6,)),
        ({"size": 3, "stride": 3, "padding": 1, "output_padding": 2}, (9,)),
        ({"size": 2, "stride": 4, "padding": "same", "groups": 2}, (12,)),
        ({"size": (1, 2, 3), "stride": (1, 2, 2)}, (3, 8, 5)),
        ({"size": 3, "stride": 2, "padding": "same"}, (6, 8, 4)),
    ],
    ids=str,
)
def test_a_transposed_convolution_is_the_adjoint_of_a_convolution(settings, lengths):
    axes = len(lengths)
    x = inputs(2, *(3, 4, 2)[:axes], 4)
    layers = (nn.ConvTranspose1d, nn.Conv1d), (nn.ConvTranspose2d, nn.Conv2d), (nn.ConvTranspose3d, nn.Conv3d)
    transposed, forward = layers[axes - 1]
    parameters, y = run(transposed(6, bias=False, **settings), x)
    assert y.shape == (2, *lengths, 6)
    other = inputs(*y.shape, seed=1)
    without_added = {name: value for name, value in settings.items() if name != "output_padding"}
    moved = forward(4, bias=False, **without_added)(nn.use(parameters), other)
    assert moved.shape == x.shape
    assert np.sum(moved * x) == pytest.approx(np.sum(other * y), rel=1e-12)


def test_conv_transpose2d_adds_its_bias_and_activates():
    x = inputs(1, 2, 2, 3)
    parameters, y = run(nn.ConvTranspose2d(2, 2, "tanh", stride=2), x)
    tiles = np.einsum("npqc,ijkc->npiqjk", x, parameters["weight"]).reshape(1, 4, 4, 2)
    np.testing.assert_allclose(y, np.tanh(tiles + parameters["bias"]))


@pytest.mark.parametrize("layer", [nn.ConvTranspose1d(2, 3), nn.ConvTranspose3d(2, 2, stride=2)], ids=lambda x: x.kind)
def test_neurons_are_recorded_with_their_positions(layer):
    x = inputs(2, *(3, 2, 2)[: layer.axes], 3)
    parameters, y = run(layer, x)
    call = nn.call_with(parameters, {}, record_neurons=True)
    layer(nn.Scope(call), x)
    ((z,),) = call.neurons.values()
    np.testing.assert_array_equal(np.reshape(z, y.shape), y)

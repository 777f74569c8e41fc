"""Recurrent layers step by step."""

import numpy as np
import pytest

from dbp import nn
from tests.nn.models import DRAW, inputs, run


def logistic(x):
    return 1 / (1 + np.exp(-x))


def gru_states(x, p, units):
    h, states = np.zeros((len(x), units)), []
    w, u = (np.split(p[name], 3, axis=1) for name in ("weight", "recurrent"))
    b = np.split(p["bias"], 3)
    for t in range(x.shape[1]):
        r, z = (logistic(x[:, t] @ w[k] + b[k] + h @ u[k]) for k in (0, 1))
        c = np.tanh(x[:, t] @ w[2] + b[2] + r * (h @ u[2] + p["candidate_bias"]))
        h = (1 - z) * c + z * h
        states.append(h)
    return np.stack(states, axis=1)


def lstm_states(x, p, units):
    h, m, states = np.zeros((len(x), units)), np.zeros((len(x), units)), []
    w, u = (np.split(p[name], 4, axis=1) for name in ("weight", "recurrent"))
    b = np.split(p["bias"], 4)
    for t in range(x.shape[1]):
        i, f, c, o = (x[:, t] @ w[k] + b[k] + h @ u[k] for k in range(4))
        m = logistic(f) * m + logistic(i) * np.tanh(c)
        h = logistic(o) * np.tanh(m)
        states.append(h)
    return np.stack(states, axis=1)


@pytest.mark.parametrize(("layer", "loop"), [(nn.GRU, gru_states), (nn.LSTM, lstm_states)])
@pytest.mark.parametrize("length", [1, 5])
def test_recurrent_layers_step_by_step(layer, loop, length):
    x = inputs(3, length, 2)
    parameters, y = run(layer(4), x)
    expected = loop(x, parameters, 4)
    np.testing.assert_allclose(y, expected, rtol=1e-10)
    np.testing.assert_allclose(layer(4, sequences=False)(nn.use(parameters), x), expected[:, -1], rtol=1e-10)
    call = nn.call_with(parameters, record_neurons=True)
    layer(4)(nn.Scope(call), x)
    assert [z.shape for z in call.neurons[""]] == [(3, 4)] * length


@pytest.mark.parametrize(("layer", "loop"), [(nn.GRU, gru_states), (nn.LSTM, lstm_states)])
def test_stacked_layers_of_both_directions_step_by_step(layer, loop):
    x = inputs(3, 5, 2)
    parameters, y = run(layer(4, layers=2, bidirectional=True), x)
    for number in (1, 2):
        of_way = [
            {name.split("/")[2]: p for name, p in parameters.items() if name.startswith(f"layer_{number}/{way}/")}
            for way in ("forward", "backward")
        ]
        forward, backward = loop(x, of_way[0], 4), loop(x[:, ::-1], of_way[1], 4)
        x = np.concatenate([forward, backward[:, ::-1]], axis=-1)
    np.testing.assert_allclose(y, x, rtol=1e-10)
    last = layer(4, sequences=False, layers=2, bidirectional=True)(nn.use(parameters), inputs(3, 5, 2))
    np.testing.assert_allclose(last, np.concatenate([forward[:, -1], backward[:, -1]], axis=-1), rtol=1e-10)


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({}, (("",),)),
        ({"layers": 2}, (("layer_1",), ("layer_2",))),
        ({"bidirectional": True}, (("forward", "backward"),)),
    ],
)
def test_paths_name_what_there_is_more_than_one_of(settings, paths):
    assert nn.GRU(4, **settings).paths == paths


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("draw", [None, DRAW])
def test_recurrent_layers_of_an_empty_sequence(layer, draw):
    x = np.zeros((3, 0, 2))
    for sequences, shape in ((True, (3, 0, 4)), (False, (3, 4))):
        parameters, y = run(layer(4, sequences=sequences), x, draw)
        np.testing.assert_array_equal(y, np.zeros(shape))
        assert list(parameters)[:2] == ["weight", "bias"]

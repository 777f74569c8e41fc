"""The text of a first config: it can be read, and its model fits the data."""

import tomllib

import numpy as np
import pytest

from dbp.config.from_table import settings_from
from dbp.nn import as_model
from dbp.nn.build import initial_parameters
from dbp.starter import DataSummary, config_text

NAMES = ("ant", "bee")


@pytest.mark.parametrize(
    ("summary", "loss", "standardize", "batch_size"),
    [
        (DataSummary(150, (4,), False, 2, NAMES, 70), "cross_entropy", "inputs", 32),
        (DataSummary(10_000, (4,), False, 3, (), 10_000), "mean_squared_error", "both", 128),
        (DataSummary(100_000, (28, 28), True, 2, NAMES, 2), "cross_entropy", None, 256),
        (DataSummary(300, (16, 30, 3), True, 1, (), 300), "mean_squared_error", "targets", 32),
        (DataSummary(5, (3, 2), False, 2, NAMES, 2), "cross_entropy", "inputs", 5),
    ],
)
def test_settings_and_model(summary, loss, standardize, batch_size):
    text = config_text("a/a.toml", 'x "1".h5', summary, [("inputs", "pixels")], "test.h5")
    settings = settings_from(tomllib.loads(text))
    assert (settings.loss.kind, settings.data.standardize, settings.batch_size) == (loss, standardize, batch_size)
    assert (settings.data.train, settings.data.inputs, settings.data.test) == ('x "1".h5', "pixels", "test.h5")
    assert (settings.data.validation is None) == (summary.examples < 20)
    example = np.zeros((2, *summary.input_shape), np.float32)
    initial = initial_parameters(as_model(settings.model), example, 0, np.dtype("float32"))
    assert initial.output_shape == (summary.outputs,)
    assert max(map(len, text.splitlines())) <= 120

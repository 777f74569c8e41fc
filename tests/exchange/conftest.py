"""A trained run whose weights are exported."""

import pytest

from tests.jobs import dbp

CONFIG = """
loss = "cross_entropy"
epochs = 1
batch_size = 50

[data]
train = "dbp:digits-train"

[model]
layers = [
    { kind = "flatten" },
    { kind = "dense", units = 6, activation = "tanh" },
    { kind = "batch_norm" },
    { kind = "dense", units = 10 },
]

[optimizer]
kind = "adam"
average = 0.9
"""


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """Return a config and the folder of its run, whose averaged weights differ from the last ones."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "config.toml"
    config.write_text(f'out = "{folder}/run"\n{CONFIG}')
    outcome = dbp("train", config)
    assert outcome.code == 0, outcome.text
    return config, folder / "run"

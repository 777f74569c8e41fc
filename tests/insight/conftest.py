"""A trained run for the commands of insight."""

import pytest

from tests.jobs import SMALL, dbp


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """Train a network with a hidden layer of ReLU on the digits."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "small.toml"
    config.write_text(f'out = "{folder}/run"\n{SMALL}'.replace("tanh", "relu"))
    outcome = dbp("train", config, "--set", "epochs=1")
    assert outcome.code == 0, outcome.text
    return folder

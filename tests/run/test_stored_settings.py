"""The texts of a run's settings and of the meaning of its data are readable, or the run does not begin."""

import pytest

from dbp import nn
from dbp.checks import MAX_CONFIG_BYTES
from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.data import ColumnMeaning, parse_meaning
from dbp.errors import UserError
from dbp.optim import SGD
from dbp.run.stored_settings import stored_config, stored_meaning


def settings(file):
    return Settings([nn.Dense(3)], "cross_entropy", Data(file), SGD(0.1), epochs=1, batch_size=5)


def test_a_config_that_is_too_long_as_it_is_stored_is_refused():
    """A relative path fits into the config, and the absolute one does not fit into the checkpoint."""
    longest = "x" * (MAX_CONFIG_BYTES - 1000)
    assert stored_config(settings(f"/{longest}"))
    with pytest.raises(UserError, match=r"^the settings cannot be stored with the run: its config has more than 4,194"):
        stored_config(settings(f"/{longest}{longest[:1000]}"))


def test_a_meaning_that_could_not_be_read_is_refused():
    meaning = {"inputs": ColumnMeaning("floats", 2.0, ("a", "b"))}
    assert parse_meaning(stored_meaning(meaning)) == meaning
    for wrong in ({"names": (1, 2)}, {"kind": "reals"}, {"names": (object(),)}):
        with pytest.raises(UserError, match=r"^the meaning of the training data cannot be stored with the run: "):
            stored_meaning({"inputs": meaning["inputs"]._replace(**wrong)})

"""Metrics in configs: read, named where they are wrong, and written back."""

import dataclasses

import pytest

from dbp.config.custom_objects import take_custom_metrics
from dbp.config.from_table import read_settings, settings_from
from dbp.config.to_table import table_from
from dbp.errors import UserError
from dbp.metrics import F1, Metric, TopK
from tests.jobs import SMALL


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(SMALL)
    return path


def test_metrics_are_read_and_written_back(config):
    settings = read_settings(config, ['metrics=["auc", {kind="top_k", k=3}, {kind="f1", average="micro"}]'])
    assert settings.metrics[1:] == (TopK(3), F1("micro"))
    table = table_from(settings)
    top_k, f1 = {"kind": "top_k", "k": 3}, {"kind": "f1", "average": "micro", "per_class": True}
    assert table["metrics"] == ["auc", top_k, f1]
    assert settings_from(table).metrics == settings.metrics
    assert "metrics" not in table_from(read_settings(config, []))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('["acuracy"]', r"unknown metrics\.0 kind 'acuracy'; did you mean 'accuracy'"),
        ('"f1"', "metrics must be a list of names and tables of metrics, but is 'f1'"),
        ("[3]", r"metrics\.0 must be the name of a metric, or a table, but is 3"),
        ('[{kind="f1",averag="micro"}]', r"unknown key 'metrics\.0\.averag'; did you mean 'metrics\.0\.average'"),
        ('[{kind="top_k",k="x"}]', r"metrics\.0\.k must be a whole number, but is 'x'"),
        ('[{custom="near"}]', r"metrics\.0 is the Python code 'near', which a config cannot name"),
    ],
)
def test_mistakes_are_named_by_their_key(config, given, message):
    with pytest.raises(UserError, match=message):
        read_settings(config, [f"metrics={given}"])


def test_a_metric_of_a_script_is_stored_by_name_and_left_out_by_commands(config):
    own = Metric("near", print, lambda sums: sums[0], larger_is_better=True)
    table = table_from(dataclasses.replace(read_settings(config, []), metrics=["f1", own]))
    f1 = {"kind": "f1", "average": "macro", "per_class": True}
    assert table["metrics"] == [f1, {"custom": "near"}]
    assert take_custom_metrics(table) == ["near"]
    assert table["metrics"] == [f1]

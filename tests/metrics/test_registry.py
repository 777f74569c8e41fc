"""Metrics as settings give them."""

import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.metrics import AUC, F1, METRICS, Metric, TopK, as_metrics
from dbp.metrics.registry import directions


def test_names_tables_and_objects():
    assert as_metrics("auc") == (AUC(),)
    assert as_metrics(["f1", {"kind": "top_k", "k": 3}, F1("micro")]) == (F1(), TopK(3), F1("micro"))
    assert all(as_metrics(kind)[0].kind == kind for kind in METRICS)


def test_directions_are_known_before_metrics_are_fitted():
    own = Metric("near", print, lambda sums: sums[0], larger_is_better=True)
    regression = ["r2", "rmse", "mae", "mse", "mean_absolute_error", own]
    assert directions(as_metrics(regression), nn.Huber()) == {
        "r2": True,
        "rmse": False,
        "mae": False,
        "mse": False,
        "mean_absolute_error": False,
        "near": True,
    }
    kinds = as_metrics(["top_k", F1("micro"), "log_loss", "auc", "confusion_matrix", "rmse"])
    assert directions(kinds, nn.Hinge()) == {"top_5": True, "f1_micro": True, "log_loss": False, "auc": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ([{"k": 3}], "unknown metric None"),
        ([{"kind": "top_k", "n": 3}], "unknown setting of metric 'top_k': 'n'"),
        ([{"kind": "f1", "average": "all"}], "unknown average 'all'"),
        ([F1], "a metric must be a name .* but is <class"),
        ([3], "a metric must be a name"),
        (["f1", F1()], "metrics has 'f1' twice"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(UserError, match=message):
        as_metrics(given)

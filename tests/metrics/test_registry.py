"""Metrics as settings give them."""

import pytest

from dbp.errors import UserError
from dbp.metrics import AUC, F1, METRICS, TopK, as_metrics


def test_names_tables_and_objects():
    assert as_metrics("auc") == (AUC(),)
    assert as_metrics(["f1", {"kind": "top_k", "k": 3}, F1("micro")]) == (F1(), TopK(3), F1("micro"))
    assert all(as_metrics(kind)[0].kind == kind for kind in METRICS)


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

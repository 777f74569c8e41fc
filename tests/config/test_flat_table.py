"""Two tables are compared by the full names of their keys."""

from dbp.config.flat_table import differences


def test_differences_are_told_key_by_key():
    old = {"a": 1, "b": {"c": [1, {"d": 2}]}, "out": "x", "checkpoint": {"keep": 3}}
    new = {"a": 2, "b": {"c": [1, {"d": 3}]}, "out": "x", "checkpoint": {"keep": 3}, "new": True}
    assert differences(old, new) == {
        "a": "a: 1 in the checkpoint, 2 now",
        "b.c.1.d": "b.c.1.d: 2 in the checkpoint, 3 now",
        "new": "new: 'not set' in the checkpoint, True now",
    }


def test_metrics_differ_as_one_setting():
    top = {"kind": "top_k", "k": 3}
    found = differences({"metrics": ["auc", top]}, {"metrics": [top, "accuracy"]})
    assert list(found) == ["metrics"]
    assert '["auc", { kind = "top_k", k = 3 }]' in found["metrics"]
    assert not differences({"metrics": ["auc", top]}, {"metrics": ["auc", dict(top)]})

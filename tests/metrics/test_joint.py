"""Test the metrics of several targets."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.metrics import MetricSet, Predictions, TargetForm, as_metrics
from dbp.metrics.joint import JointMetrics, metrics_by_target

FORMS = {"label": TargetForm("cross_entropy", "classes", 2), "energy": TargetForm("huber", "numbers", 1)}


def joint(chosen, names=("label", "energy")):
    pairs = zip(names, FORMS.values(), strict=True)
    return JointMetrics({name: MetricSet.of(as_metrics(chosen[i]), f) for i, (name, f) in enumerate(pairs)}, (1, 0.5))


def test_columns_end_with_the_target_and_begin_with_the_parts_of_the_cost():
    metrics = joint((["accuracy"], ["rmse", "mae"]))
    assert list(metrics.columns) == ["cost_label", "cost_energy", "accuracy_label", "rmse_energy", "mae_energy"]
    assert metrics.larger_is_better("validation_accuracy_label")
    assert not metrics.larger_is_better("rmse_energy")
    assert list(metrics.parts.columns) == ["cost_label", "cost_energy"]
    assert metrics.training.columns == metrics.columns


def test_each_target_has_its_own_weights():
    metrics, sums = joint((["accuracy"], ["mae"])), np.zeros(joint((["accuracy"], ["mae"])).width)
    label = Predictions(np.array([[1.0, 0], [1, 0], [0, 1]]), np.array([0, 1, 1]), np.array([1.0, 1, 0]))
    energy = Predictions(np.array([[1.0], [2], [3]]), np.array([[1.0], [4], [0]]), np.array([0.0, 3, 1]))
    metrics.write_part(sums, "label", (2.0, 3.0), label, None)
    metrics.write_part(sums, "energy", (4.0, 2.0), energy, None)
    assert metrics.values(99.0, sums) == {
        "cost_label": 1.5,
        "cost_energy": 0.5,
        "accuracy_label": 0.5,
        "mae_energy": (3 * 2 + 3) / 4,
    }
    names = [name for name, _ in metrics.named_sums(sums)]
    assert len(set(names)) == len(names) == 4
    assert sum(len(part) for _, part in metrics.named_sums(sums)) == metrics.width


def test_targets_have_the_metrics_of_a_list_that_fit_them():
    chosen = metrics_by_target(as_metrics(["accuracy", "rmse"]), FORMS)
    assert {name: [m.kind for m in metrics] for name, metrics in chosen.items()} == {
        "label": ["accuracy"],
        "energy": ["rmse"],
    }
    assert metrics_by_target({"label": as_metrics("f1")}, FORMS)["energy"] == []
    with pytest.raises(UserError, match="target 'label': metric 'top_k'"):
        metrics_by_target(as_metrics([{"kind": "top_k", "k": 7}]), FORMS)


def test_two_metrics_with_one_column_are_refused():
    with pytest.raises(UserError, match="two metrics have the column cost_energy_energy"):
        JointMetrics({"energy_energy": MetricSet(), "energy": joint((["f1"], ["mae"])).parts}, (1, 1))

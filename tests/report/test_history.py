"""A history is thinned so that its peaks remain."""

import numpy as np

from dbp.report.history import MOST_POINTS, History, kept_rows


def test_a_long_column_keeps_its_ends_and_peaks_and_a_short_one_all():
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[123_456], values[654_321] = 50, -50
    values[700_000:800_000] = np.nan
    rows = kept_rows(values)
    assert len(rows) <= MOST_POINTS + 2
    assert {0, 123_456, 654_321, 999_999} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()
    assert kept_rows(values[:5]).tolist() == [0, 1, 2, 3, 4]
    assert kept_rows(values[:0]).tolist() == []


def test_a_history_has_its_best_and_last_row_and_costs_come_first():
    columns = {"epoch": [1, 2, 3], "accuracy": [0.1, 0.2, 0.3], "cost": [3, 1, 2], "validation_f1": [1, 2, 3]}
    history = History.of([*columns], lambda name: np.array(columns[name]), best_epoch=2)
    assert history.figures == ["cost", "accuracy", "f1"]
    assert (history.epochs, history.best["cost"], history.last["cost"]) == (3, 1, 2)
    assert history.series["cost"].epochs.tolist() == [1, 2, 3]
    assert History.of([*columns], lambda name: np.array(columns[name]), best_epoch=9).best == {}


def test_columns_of_one_class_belong_to_those_of_all():
    names = ["cost", "f1", "f1_cat", "f1_1", "validation_f1", "validation_f1_dog", "top_3", "rmse_x", "seconds"]
    history = History.of(names, lambda _: np.ones(2), best_epoch=1)
    assert history.families == {"cost": [], "f1": ["f1_1", "f1_cat", "f1_dog"], "top_3": [], "rmse_x": []}

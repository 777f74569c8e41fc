"""The table of epochs: what is shown where many columns do not fit."""

from dbp.training.epoch_table import EpochTable

HISTORY = ["epoch", "step", "skipped", "learning_rate", "cost", "accuracy", "validation_cost", "validation_accuracy"]
ROW = {
    "epoch": 3.0,
    "cost": 0.52134,
    "accuracy": 0.9,
    "validation_cost": 3e-7,
    "validation_accuracy": 0.85,
    "seconds": 9,
}


def lines_of(table, row, is_best=True, left=80.0):
    return [*table.head(), table.row(row, is_best, 152033.2, left)]


def test_a_row_stands_under_its_head():
    table = EpochTable(10, [*HISTORY, "seconds"], "validation_cost")
    assert lines_of(table, ROW) == [
        "* best  ----- training -----  ---- validation ----",
        " epoch       cost   accuracy       cost   accuracy  examples/s         left",
        "* 3/10     0.5213     0.9000  3.000e-07     0.8500     152,033   1 min 20 s",
    ]


def test_of_many_columns_those_that_decide_come_first_and_all_fit():
    metrics = [f"f1_class_{number}" for number in range(30)]
    names = ["epoch", "cost", *metrics, "validation_cost", *(f"validation_{name}" for name in metrics), "seconds"]
    table = EpochTable(1000, names, "validation_f1_class_7", 80)
    assert table.shown == ["cost", "validation_cost", "validation_f1_class_7"]
    assert len(table.shown) + len(table.hidden) == 62
    row = dict.fromkeys(names, 1e-12) | {"epoch": 1000.0}
    assert max(map(len, lines_of(table, row, left=3600 * 99.0))) <= 80
    assert len(EpochTable(1000, names, "cost", 120).shown) > 3
    assert EpochTable(1000, names, "validation_f1_class_7", 10).shown == ["validation_f1_class_7"]


def test_metrics_of_all_classes_come_before_those_of_one():
    metrics = ["f1", "f1_cat", "f1_a_dog", "auc", "auc_cat"]
    names = ["epoch", "cost", "f1", "validation_cost", *(f"validation_{name}" for name in metrics)]
    shown = EpochTable(10, names, "validation_cost", 80).shown
    assert shown == ["cost", "validation_cost", "validation_f1", "validation_auc"]


def test_without_validation_data_there_is_one_group_and_at_the_end_no_time():
    table = EpochTable(2, ["epoch", "cost", "seconds"], "cost")
    first, second, row = lines_of(table, {"epoch": 2.0, "cost": float("nan")}, is_best=False, left=None)
    assert first.split() == ["*", "best", "training"]
    assert second.split() == ["epoch", "cost", "examples/s", "left"]
    assert row.split() == ["2/2", "nan", "152,033"]

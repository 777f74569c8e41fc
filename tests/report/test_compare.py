"""Runs beside one another: the best first, what differs, and what bad input gets."""

import csv
import io
import re

import pytest

from dbp.errors import UserError
from dbp.report.compare import compare_csv, compare_text
from dbp.report.record import RunRecord
from dbp.report.settings import shown_values
from tests.report.runs import history, write_run


@pytest.fixture
def records(tmp_path):
    better = {name: column - 0.1 * (name == "validation_cost") for name, column in history().items()}
    return [
        RunRecord.of(write_run(tmp_path / "first")),
        RunRecord.of(write_run(tmp_path / "second", learning_rate=1e-2, columns=better)),
    ]


def test_the_best_run_comes_first_and_what_differs_is_named(records):
    lines = compare_text(records).splitlines()
    assert lines[0].split() == ["run", "state", "best", "epoch", "validation", "cost", "time"]
    assert lines[1].split() == ["second", "finished", "3", "of", "4", "0.3000", "1", "min", "20", "s"]
    assert lines[2].split()[0] == "first"
    assert lines[4:] == [
        "settings that differ:",
        "  second: optimizer.learning_rate = 0.01",
        "  first: optimizer.learning_rate = 0.001",
    ]
    assert max(map(len, lines)) <= 80


def test_many_settings_that_differ_are_wrapped_and_none_is_broken(records):
    records[0].config["seed"], records[0].config["data"]["train"] = 12345, "a-name-of-a-file/" * 3
    records[0].config["metrics"] = ["accuracy", {"kind": "f1", "average": "micro", "per_class": True}]
    text = compare_text(records)
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "\n  first:\n    ",
        '\n    metrics = ["accuracy", { kind = "f1", average = "micro", per_class = true }]',
        "seed = 12345",
    ):
        assert part in text


def test_long_names_of_runs_are_shown_whole_below_their_figures(records):
    for record, end in zip(records, "ab", strict=True):
        record.name = "-".join(["name", "of", "a", "run"] * 4) + end
    lines = compare_text(records).splitlines()
    assert lines[0].split() == ["state", "best", "epoch", "validation", "cost", "time"]
    assert lines[2] == f"    {records[1].name}"
    assert lines[4] == f"    {records[0].name}"


def test_a_run_without_the_column_has_a_dash(records):
    for of_run in (records[0].history.best, records[0].history.last):
        of_run.pop("validation_accuracy", None)
    lines = compare_text(records, "validation_accuracy").splitlines()
    assert [line.split()[5] for line in lines[1:3]] == ["0.9000", "-"]


def test_long_settings_that_differ_at_their_end_are_shown_there(records):
    long = "/data/of/a/project/with/a/long/name/and/its/parts/in/folders/" * 5 + "train"
    records[0].config["data"]["train"], records[1].config["data"]["train"] = f"{long}-1.h5", f"{long}-2.h5"
    text = compare_text(records)
    assert re.findall(r"data.train = ([^\s,]+)", text) == [f"..{long[-19:]}-2.h5", f"..{long[-19:]}-1.h5"]
    rows = list(csv.DictReader(io.StringIO(compare_csv(records))))
    assert [row["data.train"] for row in rows] == [f"{long}-2.h5", f"{long}-1.h5"]


def test_what_follows_long_after_the_first_difference_is_left_out():
    assert shown_values(["a" * 100, "b", "-"]) == ["a" * 60 + "..", "b", "-"]
    first, second = shown_values(["x" * 100 + "1" + "y" * 100, "x" * 100 + "2"])
    assert (first, second) == (f"..{'x' * 20}1{'y' * 39}..", f"..{'x' * 20}2")


def test_a_larger_accuracy_is_better(records):
    records[0].history.best["validation_accuracy"] = 0.95
    assert compare_text(records, "validation_accuracy").splitlines()[1].startswith("first")


def test_the_csv_has_all_columns_and_no_formulas(records):
    records[0].config = {**records[0].config, "loss": "=HYPERLINK()"}
    rows = list(csv.DictReader(io.StringIO(compare_csv(records))))
    assert [row["best_epoch"] for row in rows] == ["3", "3"]
    assert float(rows[0]["validation_cost"]) == pytest.approx(0.3)
    assert rows[1]["loss"] == "'=HYPERLINK()"
    assert rows[0]["run"].endswith("second")


def test_a_column_that_no_run_has_is_refused(records):
    with pytest.raises(
        UserError, match="unknown column of the history 'validation_cots'; did you mean 'validation_cost'"
    ):
        compare_text(records, "validation_cots")
    with pytest.raises(UserError, match="has no history to compare"):
        compare_text([RunRecord(records[0].path, "run")])

"""The reader of a run's folder: what it finds, what it does about damage, and what it refuses to follow."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from dbp.errors import UserError
from dbp.report.page import page
from dbp.report.record import MAX_LOG_BYTES, RunRecord, records_of
from dbp.training.timing import peak_memory
from tests.report.runs import HOSTILE, STATUS, history, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run")


def test_a_whole_run_lacks_nothing(folder):
    record = RunRecord.of(folder)
    assert record.missing == []
    assert (record.name, record.state, record.checkpoint) == ("run", "finished", "step-000000040.h5")
    assert (record.best_epoch, record.best_by, record.history.best["validation_cost"]) == (3, "validation_cost", 0.4)
    assert record.history.figures == ["cost", "accuracy"]
    assert record.config["optimizer"]["learning_rate"] == 1e-3
    assert list(record.classes) == ["cat", HOSTILE, "dog"]
    assert [rank.rank for rank in record.ranks] == [0, 1, 2]
    assert record.ranks[1].seconds["forward"] == 5
    assert record.ranks[2].memory == 300_000_002
    assert len(record.log) == 8


def test_the_best_epoch_is_the_best_by_the_column_that_the_run_kept(folder):
    record = RunRecord.of(folder)
    record.progress = {**record.progress, "best_by": "accuracy"}
    assert record.best_by == "accuracy"
    record.progress = {**record.progress, "best_by": "nothing"}
    assert record.best_by == "validation_cost"


def test_without_checkpoints_the_files_beside_them_serve(folder):
    shutil.rmtree(folder / "checkpoints")
    record = RunRecord.of(folder)
    assert record.history.last["validation_cost"] == pytest.approx(0.45)
    assert record.history.epochs == 4
    assert record.config["epochs"] == 4
    assert [line.partition(":")[0] for line in record.missing] == ["checkpoints"]


@pytest.mark.parametrize(
    "name",
    ["status.json", "timing.csv", "history.csv", "config.toml", "logs/rank-0.log", "checkpoints/step-000000040.h5"],
)
@pytest.mark.parametrize("how", ["gone", "damaged", "binary", "link", "pipe", "folder"])
def test_a_file_that_is_damaged_is_named_and_never_followed(folder, name, how, tmp_path):
    path, secret = folder / name, tmp_path / "secret"
    content = path.read_bytes()
    secret.write_bytes(content)
    path.unlink()
    if how == "damaged":
        path.write_bytes(content[: len(content) // 2])
    elif how == "binary":
        path.write_bytes(bytes(range(256)) * 50)
    elif how == "link":
        path.symlink_to(secret)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    record = RunRecord.of(folder)
    if name.startswith(("checkpoints", "logs")) and how in ("link", "pipe", "folder", "gone"):
        assert record.missing
        assert record.checkpoint == "" or name.startswith("logs")
    assert record.history.last["cost"] == 0.25  # from the checkpoint, or from history.csv


def test_folders_that_are_links_are_not_followed(folder, tmp_path):
    for name in ("checkpoints", "logs"):
        shutil.move(folder / name, tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    record = RunRecord.of(folder)
    assert (record.checkpoint, record.log) == ("", [])
    assert sum("is a link, which is not followed" in line for line in record.missing) == 2


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere; give the folder of a run"):
        RunRecord.of(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no run; give the folder of a run"):
        RunRecord.of(tmp_path)


def test_a_huge_history_and_a_huge_log_take_little_memory(tmp_path):
    columns = {name: np.asarray(values) for name, values in history(1_000_000, best=3).items()}
    folder = write_run(tmp_path / "run", 1_000_000, columns=columns)
    with (folder / "logs" / "rank-0.log").open("ab") as file:
        file.truncate(1 << 33)  # a sparse file of 8 GB
    before = peak_memory()
    record = RunRecord.of(folder)
    assert peak_memory() - before < 1 << 27
    assert record.history.epochs == 1_000_000
    assert sum(len(series.values) for series in record.history.series.values()) < 8000
    assert sum(map(len, record.log)) <= MAX_LOG_BYTES


def test_numbers_that_no_run_writes_are_no_trouble(folder):
    (folder / "status.json").write_text(
        json.dumps(STATUS | {"ranks": "many", "epoch": -1, "cost": "x", "seconds": None})
    )
    (folder / "timing.csv").write_text("rank,host,data,memory\nx,y,z\n1e999,h,nan,inf\n0,h,inf,nan\n1,,5\n,,,,,,\n")
    record = RunRecord.of(folder)
    assert [(rank.rank, rank.seconds, rank.memory) for rank in record.ranks] == [(0, {}, 0.0), (1, {"data": 5.0}, 0.0)]


def test_a_column_that_is_too_large_to_show_is_named(folder):
    path = folder / "checkpoints" / "step-000000040.h5"
    with h5py.File(path, "r+") as file:
        contents = json.loads(file.attrs["contents"])
        contents["history/cost"][1] = [1 << 40]
        file.attrs["contents"] = json.dumps(contents)
    record = RunRecord.of(folder)
    assert record.checkpoint == ""
    assert any("step-000000040.h5" in line for line in record.missing)


def test_names_are_cut_so_that_a_page_stays_small(tmp_path):
    long = "x" * 50_000
    columns = {**history(), long: np.zeros(4)}
    folder = write_run(tmp_path / "run", classes=[long] * 24, columns=columns)
    (folder / "timing.csv").write_text(f"rank,host,data\n0,{long},1\n")
    record = RunRecord.of(folder)
    record.tables["validation/confusion_matrix"] = np.ones((24, 24))
    assert long not in record.history.series
    assert len(page([record])) < 500_000


def test_runs_of_the_same_name_are_called_by_their_paths(tmp_path):
    paths = [write_run(tmp_path / name) for name in ("a/run", "b/run", "other")]
    assert [record.name for record in records_of(paths)] == [str(paths[0]), str(paths[1]), "other"]

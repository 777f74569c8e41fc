"""Columns that training examples are split and drawn by."""

import dataclasses

import h5py
import numpy as np
import pytest

from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.config.from_table import data_from
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.parallel import OneProcess
from dbp.reading.splits import Split
from dbp.run.extra_columns import classes_of
from dbp.run.run import Run
from tests.small_data import X, Y
from tests.training.fit_runs import BASE, run

SUBJECTS = np.arange(len(X)) // 5
WEIGHTS = np.where(Y == 0, 5.0, 0.5)


@pytest.fixture
def stored(tmp_path):
    """Return the name of a group in a file whose rows lie in chunks, with columns that no model sees."""
    with h5py.File(tmp_path / "all.h5", "w") as file:
        group = file.create_group("train")
        group.create_dataset("inputs", data=X, chunks=(8, X.shape[1]), compression="gzip")
        group["targets"], group["often"] = Y, WEIGHTS
        group["subject"] = [f"patient {subject}" for subject in SUBJECTS]
    return f"{tmp_path / 'all.h5'}:/train"


def opened(data, **changes):
    return Run(dataclasses.replace(BASE, data=data, **changes), OneProcess(), {})


def rows_of(part):
    return part.rows_of_whole(np.arange(len(part)))


def test_groups_of_a_file_stay_together(stored):
    split = {"part": 0.3, "take": "groups", "groups": "subject"}
    with opened(Data(stored, validation=split)) as started:
        train, validation = (rows_of(part) for part in (started.sources.train, started.sources.validation))
    assert sorted([*train, *validation]) == list(range(len(X)))
    assert not set(SUBJECTS[train]) & set(SUBJECTS[validation])
    assert abs(len(validation) - 0.3 * len(X)) <= 5
    in_memory = {"inputs": X, "targets": Y, "subject": [f"patient {subject}" for subject in SUBJECTS]}
    with opened(Data(in_memory, validation=split)) as started:
        np.testing.assert_array_equal(rows_of(started.sources.validation), validation)


def test_classes_of_a_file_are_split_alike(stored):
    with opened(Data(stored, validation={"folds": 4, "fold": 2, "take": "stratified"})) as started:
        validation = rows_of(started.sources.validation)
    for one in range(3):
        assert abs((Y[validation] == one).sum() - (one == Y).sum() / 4) <= 1


@pytest.mark.parametrize("validation", [None, 0.2])
def test_examples_are_drawn_in_proportion_to_a_column(stored, validation):
    drawn = []
    for train in (stored, {"inputs": X, "targets": Y, "often": WEIGHTS}):
        with opened(Data(train, validation=validation, draw_weights="often")) as started:
            part, order = started.sources.train, started.order(1)
            rows = order(np.arange(len(part)))
            stored_rows = rows if validation is None else part.rows_of_whole(rows)
            drawn.append(np.bincount(stored_rows, minlength=len(X)))
            inside = np.arange(len(X)) if validation is None else rows_of(part)
            shares = WEIGHTS[inside] / WEIGHTS[inside].sum() * len(part)
            assert (np.abs(drawn[-1][inside] - shares) < 1 + 1e-9).all()
            assert "drawn by weights" in started.sampler.description
            assert str(started.sampler).endswith(", drawn by weights")
    assert drawn[0].sum() == drawn[1].sum()


def test_a_run_with_drawn_examples_resumes_in_the_middle_of_an_epoch(stored, tmp_path):
    data = Data(stored, validation={"part": 0.2, "take": "stratified"}, draw_weights="often", window=20)
    settings = dataclasses.replace(BASE, data=data, epochs=2)
    whole = run(settings)
    run(settings, out=str(tmp_path / "run"))
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000003.h5":
            path.unlink()
    resumed = run(settings, out=str(tmp_path / "run"))
    assert digest_arrays(resumed.weights) == digest_arrays(whole.weights)
    changed = dataclasses.replace(settings, data=dataclasses.replace(data, validation=Split(0.25, "stratified")))
    with pytest.raises(UserError, match=r"validation.part: 0.2 in the checkpoint, 0.25 now"):
        run(changed, out=str(tmp_path / "run"))


def test_a_split_is_read_from_a_config_and_stored_in_one():
    text = {"part": 0.2, "take": "groups", "groups": "subject"}
    data = data_from({"data": {"train": "a.h5", "validation": text, "draw_weights": "w"}})
    assert data.validation == Split(0.2, "groups", "subject")
    settings = Settings(
        model=BASE.model, loss="cross_entropy", data=data, optimizer=BASE.optimizer, epochs=1, batch_size=1
    )
    table = table_from(settings)
    assert table["data"]["validation"] == text
    assert data_from(table) == data


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        ([2, 0, 1], [2, 0, 1]),
        ([[2.0], [0.0], [1.0]], [2, 0, 1]),
        ([[0, 1], [1, 0], [0, 1]], [1, 0, 1]),
        ([0.5, 1.0, 2.0], None),
        ([[0.2, 0.8], [1, 0], [0, 1]], None),
        (np.zeros((3, 4, 2)), None),
    ],
)
def test_classes_of_targets(targets, classes):
    data = ArrayDataset(np.zeros((3, 2)), targets)
    if classes is None:
        with pytest.raises(UserError, match="needs one class per example"):
            classes_of(data)
    else:
        assert classes_of(data).tolist() == classes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"draw_weights": "other"}, r"has no data set '.*other'; .* --keep other of dbp convert"),
        ({"draw_weights": "subject"}, "one number per example"),
        ({"validation": {"part": 0.2, "take": "groups", "groups": "other"}}, r"has no data set '.*other'"),
        ({"validation": {"part": 0.2, "take": "first"}}, "unknown data.validation.take"),
        ({"validation": {"parts": 0.2}}, r"unknown key 'data.validation.parts'; did you mean 'data.validation.part'"),
        ({"draw_weights": 3}, "data.draw_weights must be the name of a column, but is 3"),
    ],
)
def test_columns_that_do_not_serve_are_refused(stored, data, message):
    with pytest.raises(UserError, match=message):
        opened(Data(stored, **data))


def test_data_of_ones_own_names_its_columns():
    class Own(ArrayDataset):
        read_column = None

    with pytest.raises(UserError, match="give the data set a method read_column"):
        opened(Data(Own(X, Y), draw_weights="often"))
    with pytest.raises(UserError, match="unknown column of the arrays 'often'"):
        opened(Data(ArrayDataset(X, Y), draw_weights="often"))
    with pytest.raises(UserError, match=r"'often' must have one row per example, .* but has 3"):
        opened(Data(ArrayDataset(X, Y, others={"often": [1, 2, 3]}), draw_weights="often"))

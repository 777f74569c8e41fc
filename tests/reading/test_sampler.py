"""The order that data and settings ask for, and runs in it."""

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.config.settings import Checkpoint
from dbp.data import ArrayDataset, HDF5Dataset
from dbp.errors import UserError
from dbp.optim import Constant
from dbp.reading.order import ChunkOrder, Order
from dbp.reading.sampler import PIECE_BYTES, Sampler, borders_of
from tests.small_data import X, Y
from tests.training.fit_runs import BASE, run


class Chunked(ArrayDataset):
    """Examples in memory that say they lie in chunks."""

    def __init__(self, rows=7, inputs=X, targets=Y):
        super().__init__(inputs, targets, name="chunked")
        self.borders = np.append(np.arange(0, len(inputs), rows), len(inputs))


def test_rows_in_one_piece_are_drawn_one_by_one():
    sampler = Sampler.of(ArrayDataset(X, Y), 3, 10)
    assert sampler.description == "rows one by one"
    assert sampler.is_plain
    every = np.arange(len(X))
    np.testing.assert_array_equal(sampler.order(2)(every), Order(len(X), 3, "order of examples", 2)(every))
    assert Sampler.of(Chunked(), 3, 10, "rows").borders is None


def test_rows_in_chunks_are_drawn_in_windows():
    data = Chunked()
    sampler = Sampler.of(data, 3, 10, window=20)
    assert not sampler.is_plain
    assert str(sampler) == f"order: windows of 20 examples from {-(-len(X) // 7)} chunks"
    assert sampler.description.startswith(f"windows of 20 rows from {-(-len(X) // 7)} chunks (")
    every = np.arange(len(X))
    np.testing.assert_array_equal(sampler.order(2)(every), ChunkOrder(data.borders, 20, 3, 2)(every))
    assert sampler.description != Sampler.of(Chunked(8), 3, 10, window=20).description


def test_data_in_one_piece_can_be_drawn_in_pieces():
    values = np.zeros((1000, PIECE_BYTES // 100), np.uint8)
    sizes = np.diff(borders_of(ArrayDataset(values, np.zeros(1000)), "chunks")).tolist()
    assert sizes == [99] * 10 + [10]


def test_the_window_follows_from_data_and_batch_size_alone():
    wide = np.zeros((60, 1 << 20), np.float32)
    assert Sampler.of(Chunked(2, wide, np.zeros(60)), 0, 1).window == 31  # 128 MB of 4 MB
    narrow = np.zeros((300, 1 << 18), np.float32)
    assert Sampler.of(Chunked(3, narrow, np.zeros(300)), 0, 1).window == 192  # 64 chunks of 3 MB
    assert Sampler.of(Chunked(5, wide, np.zeros(60)), 0, 1).window == 40  # 8 chunks of 20 MB
    assert Sampler.of(Chunked(2, wide, np.zeros(60)), 0, 3).window == 48  # 16 mini-batches
    assert Sampler.of(Chunked(2, wide, np.zeros(60)), 0, 10).window == 60  # all rows


def test_the_chunks_are_those_of_the_large_column_with_most_bytes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("inputs", data=np.zeros((50, 12)), chunks=(8, 6), compression="gzip")
        file.create_dataset("targets", data=np.zeros((50, 2)), chunks=(5, 2))
        file.create_dataset("one_piece", data=np.zeros((50, 12)))
        file.create_dataset("small", data=np.zeros(50), chunks=(5,))
    path = tmp_path / "a.h5"
    assert HDF5Dataset(path).borders.tolist() == [0, 8, 16, 24, 32, 40, 48, 50]
    assert HDF5Dataset(path, "one_piece").borders.tolist() == list(range(0, 51, 5))
    assert HDF5Dataset(path, "one_piece", "small").borders is None


# --- runs ---------------------------------------------------------------------------------------------

CHUNKED = dataclasses.replace(BASE, data=Data(Chunked(), validation=0.2, test=(X[:20], Y[:20]), window=30))


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_run_in_windows_resumes_in_the_middle_of_an_epoch(tmp_path, step):
    settings = dataclasses.replace(CHUNKED, epochs=2, checkpoint=Checkpoint(every_steps=1, keep=100))
    whole = run(settings, out=str(tmp_path / "whole"))
    assert digest_arrays(whole.weights) != digest_arrays(run(epochs=2).weights)
    part = tmp_path / "part" / "checkpoints"
    part.mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "checkpoints" / f"step-{step:09d}.h5", part)
    resumed = run(settings, out=str(tmp_path / "part"))
    assert digest_arrays(resumed.weights) == digest_arrays(whole.weights)
    assert resumed.history["validation_cost"] == whole.history["validation_cost"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": Chunked(8)}, r"order of the training examples: windows of 30 rows from .* now"),
        ({"window": 31}, r"data\.window: 30 in the checkpoint, 31 now.*--accept data\.window"),
        ({"order": "rows", "window": None}, r"data\.order: 'auto' in the checkpoint, 'rows' now.*--accept data\.order"),
    ],
)
def test_another_order_is_refused_and_can_be_accepted(tmp_path, change, message):
    run(CHUNKED, out=str(tmp_path), epochs=1, schedule=Constant())
    changed = dataclasses.replace(CHUNKED, schedule=Constant(), data=dataclasses.replace(CHUNKED.data, **change))
    with pytest.raises(UserError, match=message):
        run(changed, out=str(tmp_path))
    run(changed, out=str(tmp_path), accept=("data",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "shuffled"}, "data.order"),
        ({"window": 0}, "data.window must be at least 1, but is 0"),
        ({"window": 2.5}, "data.window must be a whole number, but is 2.5"),
        ({"window": 5, "order": "rows"}, "data.window must not be set with data.order"),
    ],
)
def test_settings_of_the_order_are_checked(settings, message):
    with pytest.raises(UserError, match=message):
        Data((X, Y), **settings)

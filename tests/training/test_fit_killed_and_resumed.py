"""Runs that are killed, and resumed on other ranks: on sequences of unequal length in chunks, and with augmentation."""

import re

import h5py
import numpy as np
import pytest

from tests.jobs import PROGRAMS, SMALL, dbp, digest, mpirun

DBP = ("-m", "dbp")
RAGGED = """
loss = "cross_entropy"
epochs = 2
batch_size = 40
shards = 4
seed = 3
optimizer = "adam"
model.layers = [
    { kind = "embedding", entries = 6, units = 4 },
    { kind = "gaussian_noise", deviation = 0.1 },
    { kind = "gru", units = 5, sequences = false },
    { kind = "dense", units = 2 },
]

[data]
train = "train.h5"
offsets = "offsets"
window = 150
memory = 4_000
validation = 0.1
"""
AUGMENTED = SMALL.replace(
    '{ kind = "flatten" },',
    """{ kind = "reshape", shape = [8, 8, 1] },
    { kind = "random_shift", size = 1 },
    { kind = "random_rotation", degrees = 10 },
    { kind = "cutout", size = 2 },
    { kind = "flatten" },""",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with both configs, and unbroken runs of them in one process, in enough memory."""
    folder, rng = tmp_path_factory.mktemp("killed"), np.random.default_rng(0)
    lengths = rng.integers(0, 30, 400)
    words = rng.integers(1, 6, lengths.sum()).astype(np.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    last = np.where(lengths > 0, words[np.maximum(offsets[1:], 1) - 1], 0)
    with h5py.File(folder / "train.h5", "w") as file:
        file.create_dataset("inputs", data=words, chunks=(25,), compression="gzip", shuffle=True)
        file["offsets"], file["targets"] = offsets, (last > 3).astype(int)
    for name, text in (("ragged", RAGGED), ("augmented", AUGMENTED)):
        (folder / f"{name}.toml").write_text(text)
        unbroken = dbp("train", folder / f"{name}.toml", "--out", folder / name, "--set", 'data.memory="1 MB"')
        assert unbroken.code == 0, unbroken.text
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "killed", "resumed"), [("ragged", 1, 2), ("ragged", 2, 3), ("ragged", 3, 1), ("augmented", 3, 2)]
)
def test_a_killed_run_comes_to_the_weights_of_an_unbroken_one(folder, tmp_path, name, killed, resumed):
    words = ("train", folder / f"{name}.toml", "--out", tmp_path / "run", "--set", "checkpoint.every_steps=3")
    assert mpirun(killed, PROGRAMS / "killed_training.py", 13, *words).code != 0
    outcome = mpirun(resumed, *DBP, *words)
    assert outcome.code == 0, outcome.text
    assert re.search(r"at epoch \d, step (9|12)\b", outcome.out), outcome.text
    assert digest(tmp_path / "run") == digest(folder / name)

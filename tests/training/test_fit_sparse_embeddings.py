"""Runs with sparse embeddings: the same bits on any ranks and nodes, and after kills; what they are refused with."""

import re

import h5py
import numpy as np
import pytest

from tests.jobs import PROGRAMS, dbp, digest, mpirun

DIGESTS = PROGRAMS / "sparse_digests.py"
CONFIG = """
loss = "cross_entropy"
epochs = 3
batch_size = 30
shards = 5
seed = 3
optimizer = "adam"
model.layers = [
    { kind = "embedding", entries = 4000, units = 3, sparse = true },
    { kind = "dropout", rate = 0.1 },
    { kind = "gru", units = 5, sequences = false },
    { kind = "dense", units = 2 },
]

[data]
train = "train.h5"
validation = 0.1

[early_stopping]
patience = 9
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a config and its data."""
    folder, rng = tmp_path_factory.mktemp("sparse"), np.random.default_rng(0)
    words = np.minimum(rng.zipf(1.2, (200, 9)), 3999)
    with h5py.File(folder / "train.h5", "w") as file:
        file["inputs"], file["targets"] = words, (words[:, 0] > 3).astype(int)
    (folder / "sparse.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def alone():
    """Return what one process prints for several methods."""
    outcome = mpirun(1, DIGESTS)
    assert outcome.code == 0, outcome.text
    assert len(set(outcome.out.splitlines())) == 4
    return outcome.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "words"),
    [("2", ()), ("3", ()), ("5", ()), ("2,1", ()), ("1,2", ("divided",)), ("1,1", ("divided",))],
)
def test_any_ranks_and_nodes_give_the_same_bits(alone, sizes, words):
    ranks = sum(map(int, sizes.split(",")))
    environment = {"DBP_NODE_SIZES": sizes} if "," in sizes else {}
    outcome = mpirun(ranks, DIGESTS, *words, env=environment)
    assert outcome.code == 0, outcome.text
    assert outcome.out == alone


@pytest.mark.slow
def test_gradients_by_rows_have_the_bits_of_whole_ones(alone):
    """The norm of a gradient is summed in another order, so that the first method, which clips it, is left out."""
    outcome = mpirun(1, DIGESTS, "flat")
    assert outcome.out.splitlines()[1:] == alone.splitlines()[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "resumed"), [(2, 3), (3, 1)])
def test_a_killed_run_comes_to_the_weights_of_an_unbroken_one(folder, tmp_path, killed, resumed):
    unbroken = dbp("train", folder / "sparse.toml", "--out", tmp_path / "whole")
    assert unbroken.code == 0, unbroken.text
    words = ("train", folder / "sparse.toml", "--out", tmp_path / "run", "--set", "checkpoint.every_steps=2")
    assert mpirun(killed, PROGRAMS / "killed_training.py", 9, *words).code != 0
    outcome = mpirun(resumed, "-m", "dbp", *words)
    assert outcome.code == 0, outcome.text
    assert re.search(r"at epoch \d, step (6|8)\b", outcome.out), outcome.text
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('optimizer="lbfgs"', "'embedding_1/weight' is sparse, but optimizer 'lbfgs' needs the gradient by all"),
        (
            'optimizer={kind="adam", average=0.9}',
            "is sparse, but optimizer.average changes the averages",
        ),
    ],
)
@pytest.mark.slow
def test_mistakes_are_found_before_the_first_step(folder, tmp_path, change, message):
    outcome = dbp("train", folder / "sparse.toml", "--out", tmp_path / "run", "--set", change)
    assert outcome.code == 2, outcome.text
    assert re.search(message, outcome.err), outcome.text
    assert not (tmp_path / "run" / "checkpoints").exists()

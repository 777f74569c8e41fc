"""Training on compressed chunks: the same bits on any ranks and nodes, and after a run was killed and resumed."""

import h5py
import numpy as np
import pytest

from dbp.data import data_path
from tests.jobs import SMALL, dbp, digest, mpirun

DBP = ("-m", "dbp")


GROUPS = 'data.validation={folds=10, fold=3, take="groups", groups="writer"}'
EXTRA = ("--set", "data.draw_weights=often", "--set", GROUPS)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Return a config of compressed chunks."""
    folder = tmp_path_factory.mktemp("chunked")
    with h5py.File(data_path("dbp:digits-train")) as given, h5py.File(folder / "train.h5", "w") as file:
        for name in ("inputs", "targets"):
            column = file.create_dataset(
                name, data=given[name][()], chunks=(64, *given[name].shape[1:]), compression="gzip", shuffle=True
            )
            column.attrs.update(given[name].attrs)
        file["often"], file["writer"] = 1 + (given["targets"][()] == 3), np.arange(len(given["targets"])) // 32
    config = folder / "small.toml"
    config.write_text(SMALL.replace("dbp:digits-train", "train.h5").replace("[model]", "window = 300\n[model]"))
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "memory", "changes"), [("3", "0.2 MB", ()), ("2,3", "40 kB", ("--set", "shards=5", *EXTRA))]
)
def test_chunks_give_the_same_bits_on_any_ranks(config, tmp_path, sizes, memory, changes):
    """The run is resumed by two ranks in the middle of an epoch, with memory for other chunks."""
    ranks, env = sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes if "," in sizes else ""}
    words = ("train", config, *changes, "--set", "checkpoint={every_steps=3, keep=100}")
    alone = dbp(*words, "--out", tmp_path / "one")
    assert alone.code == 0, alone.text
    outcome = mpirun(ranks, *DBP, *words, "--out", tmp_path / "run", "--set", f'data.memory="{memory}"', env=env)
    assert outcome.code == 0, outcome.text
    assert "order: windows of 300 examples from 23 chunks" in outcome.out
    assert digest(tmp_path / "run") == digest(tmp_path / "one")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000030.h5":
            path.unlink()
    resumed = mpirun(2, *DBP, *words, "--out", tmp_path / "run", "--set", 'data.memory="50 kB"')
    assert "at epoch 2, step 30" in resumed.out
    assert digest(tmp_path / "run") == digest(tmp_path / "one")

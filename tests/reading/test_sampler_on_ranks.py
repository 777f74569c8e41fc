"""Training on compressed chunks: the same bits on any ranks and nodes, and after a run was killed and resumed."""

import h5py
import pytest

from dbp.data import data_path
from tests.jobs import SMALL, dbp, digest, mpirun

DBP = ("-m", "dbp")


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """Return a config of compressed chunks, and the digest of its run on one process."""
    folder = tmp_path_factory.mktemp("chunked")
    with h5py.File(data_path("dbp:digits-train")) as given, h5py.File(folder / "train.h5", "w") as file:
        for name in ("inputs", "targets"):
            column = file.create_dataset(
                name, data=given[name][()], chunks=(64, *given[name].shape[1:]), compression="gzip", shuffle=True
            )
            column.attrs.update(given[name].attrs)
    config = folder / "small.toml"
    config.write_text(SMALL.replace("dbp:digits-train", "train.h5").replace("[model]", "window = 300\n[model]"))
    outcome = dbp("train", config, "--out", folder / "one")
    assert outcome.code == 0, outcome.text
    return config, digest(folder / "one")


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "memory"), [("3", "0.2 MB"), ("2,3", "40 kB")])
def test_chunks_give_the_same_bits_on_any_ranks(chunked, tmp_path, sizes, memory):
    """The run is resumed by two ranks in the middle of an epoch, with memory for all rows in place of some chunks."""
    config, expected = chunked
    ranks, env = sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes if "," in sizes else ""}
    words = ("train", config, "--out", tmp_path / "run", "--set", "checkpoint={every_steps=3, keep=100}")
    words += ("--set", "shards=5") if ranks == 5 else ()
    if ranks == 5:
        outcome = dbp(*words[:3], tmp_path / "one", "--set", "shards=5")
        assert outcome.code == 0, outcome.text
        expected = digest(tmp_path / "one")
    outcome = mpirun(ranks, *DBP, *words, "--set", f'data.memory="{memory}"', env=env)
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "run") == expected
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000030.h5":
            path.unlink()
    resumed = mpirun(2, *DBP, *words)
    assert "at epoch 2, step 30" in resumed.out
    assert digest(tmp_path / "run") == expected

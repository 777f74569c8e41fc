"""The data of a run from several files, groups and tables: the same bits as from one file, on any number of ranks."""

import h5py
import numpy as np
import pytest

import dbp
from dbp.cli import main
from tests.jobs import digest, mpirun
from tests.small_data import X, Y

CONFIG = """
loss = "cross_entropy"
epochs = 2
batch_size = 20
shards = 3
optimizer = "adam"
model.layers = [{ kind = "dense", units = 4, activation = "tanh" }, { kind = "dense", units = 3 }]

[data]
inputs = "x"
targets = "y"
"""
SEVERAL = """
train = ["part-[01].h5:/train", "part-2.h5:/train"]
validation = "all.h5:/validation"
test = { files = ["all.h5:/validation"], inputs = "z", targets = "/validation/y" }
"""
ONE = 'train = "one.h5"\nvalidation = "all.h5:/validation"\ntest = "all.h5:/validation"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the same examples in one file and in several."""
    folder = tmp_path_factory.mktemp("sources")
    for i, rows in enumerate((slice(0, 7), slice(7, 40), slice(40, 60))):
        with h5py.File(folder / f"part-{i}.h5", "w") as file:
            file["train/x"], file["train/y"] = X[rows], Y[rows]
    with h5py.File(folder / "one.h5", "w") as file:
        file["x"], file["y"] = X, Y
    with h5py.File(folder / "all.h5", "w") as file:
        file["validation/x"], file["validation/y"], file["validation/z"] = X[:9], Y[:9], X[:9]
    (folder / "several.toml").write_text(CONFIG + SEVERAL)
    (folder / "one.toml").write_text(CONFIG + ONE)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """Return the digest of a run on one file."""
    assert main(["train", f"{folder}/one.toml", "--out", f"{folder}/one"]) == 0
    return digest(folder / "one")


def test_several_files_give_the_bits_of_one_and_resume(folder, expected, capsys):
    out = f"{folder}/several"
    assert main(["train", f"{folder}/several.toml", "--set", "epochs=1", "--out", out]) == 0
    assert main(["train", f"{folder}/several.toml", "--out", out]) == 0
    assert digest(out) == expected
    assert main(["train", f"{out}/config.toml", "--set", "epochs=2"]) == 0  # whose paths are absolute
    capsys.readouterr()
    assert main(["inspect", out, "--all"]) == 0
    assert f"{folder}/part-[01].h5:/train" in capsys.readouterr().out
    assert main(["summary", f"{folder}/several.toml"]) == 0
    with h5py.File(folder / "part-1.h5", "r+") as file:
        before = file["train/x"][3, 0]
        file["train/x"][3, 0] += 1
    try:
        assert main(["train", f"{folder}/several.toml", "--set", "epochs=3", "--out", out]) == 2
    finally:
        with h5py.File(folder / "part-1.h5", "r+") as file:
            file["train/x"][3, 0] = before
    assert "train data: other examples now than in the checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("train", ['"{0}/one.npz"', '{{ inputs = "{0}/x.npy", targets = "{0}/y.npy" }}'])
def test_files_of_numpy_give_the_same_bits(folder, expected, train):
    np.savez(folder / "one.npz", x=X, y=Y)
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    out = f"{folder}/numpy"
    change = f"data.train={train.format(folder)}"
    assert main(["train", f"{folder}/one.toml", "--out", out, "--fresh", "--set", change]) == 0
    assert digest(out) == expected
    assert main(["train", f"{out}/config.toml"]) == 0


@pytest.mark.slow
def test_ranks_read_their_rows_of_several_files(folder, expected):
    out = f"{folder}/ranks"
    outcome = mpirun(3, "-m", "dbp", "train", folder / "several.toml", "--out", out)
    assert outcome.code == 0, outcome.text
    assert "examples: 60 training, 9 validation, 9 test" in outcome.out
    assert digest(out) == expected


@pytest.mark.slow
def test_chunks_in_several_files_give_the_same_bits_on_ranks(folder):
    for i, rows in enumerate((slice(0, 25), slice(25, 60))):
        with h5py.File(folder / f"packed-{i}.h5", "w") as file:
            file.create_dataset("x", data=X[rows], chunks=(8, 5), compression="gzip", shuffle=True)
            file["y"] = Y[rows]
    words = ("--set", f"data.train={folder}/packed-*.h5", "--set", "data.window=16")
    assert main(["train", f"{folder}/one.toml", *words, "--out", f"{folder}/packed"]) == 0
    outcome = mpirun(3, "-m", "dbp", "train", folder / "one.toml", *words, "--out", folder / "packed-on-3")
    assert outcome.code == 0, outcome.text
    assert digest(folder / "packed-on-3") == digest(folder / "packed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.train=missing-*.h5", r"data files missing-*.h5: there is none (looked for "),
        ('data.test={files="all.h5", input="x"}', "unknown key 'data.test.input'; did you mean 'data.test.inputs'?"),
        ("data.inputs=w", "has no data set '/train/w'; it has train/x, train/y: name the right ones"),
    ],
)
def test_mistakes_in_sources_are_named(folder, capsys, change, message):
    code = main(["train", f"{folder}/several.toml", "--out", f"{folder}/mistakes", "--set", change])
    assert code == 2
    assert message in capsys.readouterr().err


def test_arrays_by_name_give_the_same_bits_as_in_order():
    model = [dbp.nn.Dense(3)]
    options = {"loss": "cross_entropy", "optimizer": "adam", "epochs": 1, "batch_size": 20, "shards": 1, "quiet": True}
    by_name = dbp.fit(model=model, data={"inputs": X, "targets": Y, "weights": np.ones(60)}, **options)
    in_order = dbp.fit(model=model, data=(X, Y, np.ones(60)), **options)
    for name, weights in by_name.weights.items():
        np.testing.assert_array_equal(weights, in_order.weights[name])


@pytest.mark.parametrize(
    "test", ['"{0}/part-1.h5:/train"', '["{0}/all.h5:/validation", "{0}/../{1}/part-1.h5:/train"]']
)
def test_a_file_in_two_parts_is_warned_of(folder, capsys, test):
    change = f"data.test={test.format(folder, folder.name)}"
    words = ("--out", f"{folder}/twice", "--fresh", "--set", change, "--set", "epochs=1")
    assert main(["train", f"{folder}/several.toml", *words]) == 0
    assert "warning: data.test has the same examples as data.train in " in capsys.readouterr().out

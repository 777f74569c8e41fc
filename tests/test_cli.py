"""The command line in one process: every command, and what bad input gets."""

import csv
import json
import re
import shutil
import tomllib

import h5py
import numpy as np
import pytest

from dbp.checkpoint import opened
from dbp.cli import main, parser_of
from dbp.commands import COMMANDS, load
from dbp.commands.convert import FORMATS
from dbp.data import HDF5Dataset
from dbp.process.rank_note import OWNER, title
from tests.jobs import ROOT, dbp, digest, mpirun, run


@pytest.fixture
def trained(small_run, tmp_path):
    """Return the folder of a run of the small config, for this test alone, and the outcome of its training."""
    folder, outcome = small_run
    return shutil.copytree(folder, tmp_path / "run"), outcome


def test_train_says_what_it_does(trained):
    folder, outcome = trained
    lines = outcome.out.splitlines()
    assert lines[0].startswith("dbp 0.1.0: 1 rank (")
    assert lines[0].endswith("), 4 shards")
    assert lines[1].startswith("1 BLAS thread per rank, ")
    assert lines[2].startswith("folder: /")
    assert lines[3] == "1,210 parameters (float32); examples: 1,294 training, 144 validation, 359 test"
    assert lines[4].split() == ["*", "best", "-----", "training", "-----", "----", "validation", "----"]
    assert lines[5].split() == ["epoch", "cost", "accuracy", "cost", "accuracy", "examples/s", "left"]
    assert [line.split()[:2] for line in lines[6:8]] == [["*", "1/2"], ["*", "2/2"]]
    assert lines[8].startswith("finished: 2 epochs, 52 steps in ")
    assert lines[9].startswith("a step took ")
    assert "backward " in lines[9]
    assert lines[10].startswith("test: cost ")
    assert all(len(line) <= 80 for line in lines if not line.startswith("folder: "))
    assert outcome.err == ""
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoints",
        "config.toml",
        "history.csv",
        "logs",
        "status.json",
        "timing.csv",
    ]


def test_the_run_folder_can_be_read_by_other_programs(trained):
    folder, _ = trained
    assert tomllib.loads((folder / "config.toml").read_text())["batch_size"] == 50
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["cost"]) < float(rows[0]["cost"])


def test_eval_gives_what_train_gave(trained):
    folder, outcome = trained
    told = outcome.out.splitlines()[-1].removeprefix("test: ")
    assert dbp("eval", folder, "dbp:digits-test").out.strip() == told
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    assert dbp("eval", newest, "dbp:digits-test").out.strip() == told


def test_predict_writes_outputs_classes_and_probabilities(trained, tmp_path):
    folder, outcome = trained
    out = tmp_path / "p.h5"
    told = dbp("predict", folder, "dbp:digits-test", out)
    assert told.out.strip() == f"359 predictions written to {out}"
    targets = HDF5Dataset("dbp:digits-test").read(slice(0, 359)).targets
    with h5py.File(out) as file:
        assert sorted(file) == ["classes", "outputs", "probabilities"]
        accuracy = np.mean(file["classes"][:] == targets)
        np.testing.assert_allclose(file["probabilities"][:].sum(axis=1), 1, rtol=1e-5)
    assert f"accuracy {accuracy:.4f}" in outcome.out.splitlines()[-1]
    again = dbp("predict", folder, "dbp:digits-test", out)
    assert (again.code, again.err) == (2, f"dbp: error: {out} exists; choose another name or pass --overwrite\n")
    assert dbp("predict", folder, "dbp:digits-test", out, "--overwrite").code == 0
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_inspect_shows_tree_progress_config_and_digest(trained):
    folder, _ = trained
    text = dbp("inspect", folder, "--all").out
    assert "_" not in text[text.index("\nprogress\n") : text.index("\nmade with\n")]
    for part in (
        "finished: 2 epochs, 52 steps",
        "  evaluations of the cost  ",
        "/model/dense_1/weight",
        "64x16",
        "batch_size = 50",
        "numpy",
    ):
        assert part in text
    short = dbp("inspect", folder).out.splitlines()
    assert len(short) <= 15
    assert max(map(len, short[1:])) <= 80
    assert short[-2].startswith("model: 1,210 numbers in 4 arrays; optimizer: 2 such vectors; ")
    assert dbp("inspect", "--digest", folder).out.strip() == digest(folder)
    assert len(digest(folder)) == 64


def test_train_again_finds_the_finished_run(trained, small):
    _, outcome = trained
    again = dbp("train", small)
    assert "is finished: raise epochs to continue it, or start over with --fresh" in again.out
    assert again.out.splitlines()[-1] == outcome.out.splitlines()[-1]
    assert again.code == 0


def test_fresh_moves_the_old_run_aside(trained, small):
    folder, _ = trained
    again = dbp("train", small, "--fresh", "--set", "epochs=1")
    assert f"the checkpoints of an earlier run were moved to {folder}/checkpoints-old-1" in again.out
    deleted = dbp("train", small, "--fresh", "--overwrite", "--set", "epochs=1")
    assert "deleted 3 checkpoints of an earlier run" in deleted.out


def test_out_names_another_folder(small, tmp_path):
    assert dbp("train", small, "--set", "epochs=1", "--out", tmp_path / "a b").code == 0
    assert (tmp_path / "a b" / "history.csv").exists()


def write(path, inputs, targets, **more):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, targets
        for name, values in more.items():
            file[name] = values


LAYERS = "[{{kind='reshape',shape=[8,8,1]}},{},{{kind='flatten'}},{{kind='dense',units=10}}]"
IMAGES = LAYERS.format("{kind='conv2d',filters=2,size=9}")
POOLED = LAYERS.format("{kind='max_pool2d',size=9}")
X, Y = np.random.default_rng(0).random((60, 8, 8)), np.arange(60) % 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["optimizer.lerning_rate=1"], "unknown key 'optimizer.lerning_rate'; did you mean 'optimizer.learning_rate'?"),
        (["data.train=missing.h5"], "data file missing.h5 does not exist (looked for {folder}/missing.h5)"),
        (["data.train=text.h5"], "data file text.h5 is not an HDF5 file"),
        (["data.train=unequal.h5"], "inputs have 60 rows and targets have 50"),
        (["data.train=good.h5", "data.targets=labels"], "good.h5: has no data set 'labels'; it has inputs, targets"),
        (["data.train=range.h5"], "targets of cross_entropy must lie from 0 to 9, as the model has 10 outputs, but"),
        (["data.train=real.h5"], "targets of cross_entropy must be classes, whole numbers from 0 to 9, but"),
        (["data.train=nan.h5"], "nan.h5: inputs must be finite, but those of example 7 contain nan"),
        (["data.train=good.h5", "batch_size=61"], "batch_size is 61, but must not be larger than the training data"),
        (["data.train=weights.h5"], "weights must be finite and not negative, but that of example 3 is -1.0"),
        (["dtype=float8"], "unknown dtype 'float8'"),
        (["model.layers.0={kind='dense',units=3}"], "is a flatten or a pooling layer missing?"),
        (
            [f"model.layers={IMAGES}"],
            "conv2d_1: a window of size 9 does not fit its inputs of 8 x 8; size must be at most",
        ),
        ([f"model.layers={POOLED}"], "max_pool2d_1: a window of size 9 does not fit its inputs of 8 x 8; size must be"),
    ],
)
def test_bad_input_gets_one_line_and_an_exit_code(small, tmp_path, changes, message):
    (tmp_path / "text.h5").write_text("not HDF5")
    write(tmp_path / "good.h5", X, Y)
    write(tmp_path / "unequal.h5", X, Y[:50])
    write(tmp_path / "range.h5", X, Y + 1)
    write(tmp_path / "real.h5", X, Y / 2)
    write(tmp_path / "nan.h5", np.where(np.arange(60)[:, None, None] == 7, np.nan, X), Y)
    write(tmp_path / "weights.h5", X, Y, weights=np.where(np.arange(60) == 3, -1.0, 1.0))
    words = [word for change in changes for word in ("--set", change)]
    test = ("--set", "data.test=good.h5") if changes[0].startswith("data.train") else ()
    usual = ("--set", "batch_size=20", "--set", "data.scale=1", *test)
    outcome = dbp("train", small, *usual, *words, cwd=tmp_path)
    is_bad_row = changes[0].removeprefix("data.train=") in ("range.h5", "real.h5", "nan.h5", "weights.h5")
    assert outcome.code == (65 if is_bad_row else 2)
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert message.replace("{folder}", str(tmp_path)) in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.toml"], "config none.toml cannot be read: No such file or directory"),
        (["train"], "the following arguments are required: CONFIG; see dbp train --help"),
        (["trian", "{small}"], "invalid choice: 'trian'"),
        (["run", "-n", "two", "--", "train"], "argument -n: invalid int value: 'two'; see dbp run --help"),
        (["train", "{small}", "--overwrite"], "--overwrite deletes an earlier run's checkpoints and goes only with"),
        (["eval", "none", "dbp:digits-test"], "checkpoint none does not exist"),
        (["eval", ".", "dbp:digits-test"], "folder . holds no checkpoint"),
        (["convert", "idx", "none", "none", "o.h5"], "none cannot be read: No such file or directory"),
        (
            ["convert", "csv", "t", "o.h5", "--target", "a", "--no-target"],
            "--no-target says that there are no targets, but --target names some; give one of them",
        ),
        (["run", "-n", "0", "--", "train", "{small}"], "-n must be at least 1, but is 0"),
        (["run", "-n", "2", "--", "trian", "{small}"], "there is no command 'trian'; valid: train"),
    ],
)
def test_other_mistakes_get_one_line_too(small, tmp_path, words, message):
    outcome = dbp(*(word.format(small=small) for word in words), cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1
    assert message in outcome.err


def test_verify_tells_of_each_checkpoint_whether_it_is_whole(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    outcome = dbp("verify", tmp_path / "copy")
    files = sorted((tmp_path / "copy" / "checkpoints").glob("step-*.h5"))
    assert (outcome.code, outcome.out.count(": intact, step ")) == (0, len(files))
    with opened(files[-1]) as found:
        offset = found.entries["model/dense_1/weight"].offset
    content = bytearray(files[-1].read_bytes())
    content[offset + 5] ^= 1
    files[-1].write_bytes(content)
    outcome = dbp("verify", tmp_path / "copy")
    assert (outcome.code, outcome.out.count(": intact, step ")) == (65, len(files) - 1)
    assert f"checkpoint {files[-1]} is damaged: model/dense_1/weight does not match its digest" in outcome.out
    assert dbp("verify", files[0]).code == 0
    outcome = dbp("inspect", files[-1], "--digest")
    assert (outcome.code, len(outcome.err.splitlines())) == (65, 1)
    assert "does not match its digest" in outcome.err
    (tmp_path / "empty").mkdir()
    outcome = dbp("verify", tmp_path / "empty")
    assert (outcome.code, outcome.err) == (2, f"dbp: error: folder {tmp_path / 'empty'} holds no checkpoint\n")


def test_data_of_another_shape_does_not_fit_a_checkpoint(trained, tmp_path):
    write(tmp_path / "wide.h5", np.zeros((3, 9, 9)), np.zeros(3, int))
    outcome = dbp("eval", trained[0], tmp_path / "wide.h5", "--scale", "1")
    assert outcome.code == 2
    assert "inputs of shape (9, 9) do not fit the model, which was trained on inputs of shape (8, 8)" in (outcome.err)


@pytest.mark.usefixtures("trained")
def test_a_checkpoint_of_another_model_is_refused(small):
    outcome = dbp("train", small, "--set", "model.layers.1.units=17")
    assert outcome.code == 2
    assert "model.layers.1.units: 16 in the checkpoint, 17 now" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_convert_csv_and_train_on_it(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((80, 2))
    lines = [f"{a},{b},{'in' if a * a + b * b < 1 else 'out'}" for a, b in points]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,side", *lines]))
    outcome = dbp("convert", "csv", "t.csv", "t.h5", cwd=tmp_path)
    assert outcome.out.strip() == "t.h5: 80 examples (inputs float64 80 x 2, targets int64 80)"
    with h5py.File(tmp_path / "t.h5") as file:
        assert file["targets"].attrs["classes"].tolist() == ["in", "out"]
        assert file["inputs"].attrs["names"].tolist() == ["x", "y"]


def test_a_command_that_writes_a_file_is_refused_on_ranks_and_said_once(tmp_path):
    (tmp_path / "t.csv").write_text("1,2\n3,4\n")
    outcome = mpirun(2, "-m", "dbp", "convert", "csv", "t.csv", "t.h5", cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    line = "dbp: error: dbp convert works in one process, but was started on 2 ranks; start it without a launcher"
    assert outcome.err.count("dbp: error") == outcome.err.count(line) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_command_that_a_rank_has_started_is_one_process(tmp_path, monkeypatch, capsys):
    """Start it from a rank that has not loaded MPI."""
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_NAMESPACE": "of this"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "t.csv").write_text("1,2\n3,4\n")
    words = ["convert", "csv", f"{tmp_path}/t.csv", f"{tmp_path}/t.h5"]
    monkeypatch.setenv(OWNER, "")
    assert main(words) == 2
    assert "dbp convert works in one process" in capsys.readouterr().err
    monkeypatch.setenv(OWNER, f"1 {title()} 0")
    assert main(words) == 0
    assert len(HDF5Dataset(tmp_path / "t.h5")) == 2


def test_import_dbp_loads_nothing_else():
    code = "import sys, dbp, json; print(json.dumps([m for m in sys.modules if m in ('numpy', 'h5py', 'mpi4py')]))"
    import sys

    assert json.loads(run(sys.executable, "-c", code).out) == []


def test_help_names_the_commands():
    text = dbp("--help").out
    assert re.findall(r"^    (\w+) ", text, re.MULTILINE) == list(COMMANDS)
    modules = {path.stem.rstrip("_") for path in (ROOT / "dbp" / "commands").glob("*.py")}
    assert modules - {"__init", "parser"} == set(COMMANDS)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_of_convert_has_its_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser_of(["convert"]).parse_args(["convert", name, "--help"])
    assert ended.value.code == 0
    usage = " ".join(capsys.readouterr().out.split())
    assert f"usage: dbp convert {name} " in usage
    assert " ".join(FORMATS[name].files) in usage


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_fits_a_terminal(name):
    text = parser_of([name]).format_help()
    assert f"    {name} " in text
    assert len(load(name).HELP) <= 64  # one line of dbp --help in 80 columns
    with pytest.raises(SystemExit) as ended:
        parser_of([name]).parse_args([name, "--help"])
    assert ended.value.code == 0

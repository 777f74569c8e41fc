"""Results of a checkpoint on files whose columns, classes and units are those of the training, or are not."""

import csv
import shutil

import h5py
import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import files_of
from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.optim import Adam
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.jobs import mpirun, newest_checkpoint
from tests.small_data import X, Y

COLUMNS, CLASSES = ["a", "b", "c", "d", "e"], ["ant", "bee", "cät"]


def write(path, inputs=X, targets=Y, names=COLUMNS, classes=CLASSES, **of_inputs):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, targets
        of_inputs |= {"names": names} if names else {}
        file["inputs"].attrs.update(of_inputs)
        if classes:
            file["targets"].attrs["classes"] = classes
    return str(path)


def table_in(path):
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run on named columns and classes."""
    folder = tmp_path_factory.mktemp("named")
    data = Data(write(folder / "train.h5"))
    model = [nn.Dense(8, "tanh"), nn.Dense(3)]
    settings = Settings(model, "cross_entropy", data, Adam(3e-2), 20, 12, shards=1, out=str(folder / "run"))
    train(settings, OneProcess(), Start(quiet=True))
    return folder / "run"


def test_the_checkpoint_keeps_the_meaning_of_the_data(trained, run_command):
    text = run_command("inspect", trained, "--all")[1]
    assert "data\n  inputs   floats; columns a, b, c, d, e\n  targets  integers; classes ant, bee, cät\n" in text
    assert "cät" in newest_checkpoint(trained).meaning.encode().decode("unicode_escape")


def test_other_orders_give_the_same_cost_and_predictions(trained, run_command, tmp_path):
    same, moved = tmp_path / "same.h5", tmp_path / "moved.h5"
    write(same)
    numbers = np.array([1, 2, 0])[Y]
    write(moved, X[:, ::-1], numbers, COLUMNS[::-1], ["cät", "ant", "bee"])
    assert run_command("eval", trained, moved) == run_command("eval", trained, same)
    for path in (same, moved):
        assert run_command("predict", trained, path, f"{path}.out.h5")[0] == 0
    with h5py.File(f"{same}.out.h5") as one, h5py.File(f"{moved}.out.h5") as other:
        assert list(one) == ["classes", "labels", "outputs", "probabilities"]
        assert all(np.array_equal(one[name], other[name]) for name in one)
        labels, classes = one["labels"].asstr()[:].tolist(), one["classes"][:]
        assert labels == [CLASSES[number] for number in classes]
        assert np.mean(classes == Y) > 0.9
        assert one["probabilities"].attrs["names"].tolist() == one["outputs"].attrs["names"].tolist() == CLASSES


def test_data_without_names_is_taken_and_gets_labels(trained, run_command, tmp_path):
    plain = write(tmp_path / "plain.h5", names=None, classes=None)
    code, out, err = run_command("eval", trained, plain)
    assert (code, out) == run_command("eval", trained, write(tmp_path / "same.h5"))[:2]
    said = "not compared: names of inputs (a, b, c, d, e), classes of targets (ant, bee, cät), which this data does not"
    assert err.startswith(f"warning: {plain}: {said} name")
    assert err.count("\n") == 1
    code, _, err = run_command("predict", trained, plain, tmp_path / "p.h5")
    assert (code, err.count("not compared: names of inputs (a, b, c, d, e), which")) == (0, 1)
    with h5py.File(tmp_path / "p.h5") as file:
        assert "labels" in file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["ant", "bee", "dog"]}, "the training data has no class dog"),
        ({"names": ["a", "b", "c", "d", "f"]}, "inputs have the columns a, b, c, d, f, but those of the training data"),
        (
            {"scale": 2.0},
            "inputs are floats with scale 2, but those of the training data are floats with scale 1; pass",
        ),
        ({"inputs": np.ones((60, 5), int)}, "inputs are integers with scale 1, but those of the training data are fl"),
    ],
)
def test_what_does_not_mean_the_same_is_refused(trained, run_command, tmp_path, change, message):
    path = write(tmp_path / "a.h5", **change)
    commands = [("eval", trained, path), ("neurons", trained, path)]
    if "classes" not in change:  # predictions need no targets
        commands.append(("predict", trained, path, tmp_path / "p.h5"))
    for command in commands:
        code, out, err = run_command(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"a.h5: {message}" in err
    assert not (tmp_path / "p.h5").exists()


def test_a_scale_may_be_stated(trained, run_command, tmp_path):
    half = write(tmp_path / "half.h5", X / 2)
    as_it_is = run_command("eval", trained, write(tmp_path / "same.h5"))
    assert run_command("eval", trained, half, "--scale", "2")[:2] == as_it_is[:2]
    assert run_command("eval", trained, half) != as_it_is
    for wrong in ("0", "nan", "x"):
        code, _, err = run_command("eval", trained, half, "--scale", wrong)
        assert (code, err) == (2, f"dbp: error: --scale takes a number other than 0, but is '{wrong}'\n")


def test_the_scale_of_a_config_was_stated_for_its_training_data(run_command, tmp_path):
    """Refuse another kind of numbers, of which the same scale gives other inputs."""
    numbers = (50 * (X - X.min())).astype(np.uint8)
    as_bytes = write(tmp_path / "bytes.h5", numbers)
    as_floats, as_stated = write(tmp_path / "floats.h5", numbers / 50), write(tmp_path / "own.h5", numbers * 1.0)
    arguments = {"optimizer": Adam(3e-2), "epochs": 1, "batch_size": 12, "shards": 1, "out": str(tmp_path / "run")}
    given = {"model": [nn.Dense(3)], "loss": "cross_entropy"}
    train(Settings(**given, data=Data(as_bytes, scale=0.02), **arguments), OneProcess(), Start(quiet=True))
    found = run_command("eval", tmp_path / "run", as_bytes)
    assert found[0] == 0
    for command in ("eval", "neurons"):
        code, _, err = run_command(command, tmp_path / "run", as_floats)
        assert (code, err.count("\n")) == (2, 1)
        assert "floats.h5: inputs are floats with scale 0.02, but those of the training data are integers" in err
    assert run_command("eval", tmp_path / "run", as_floats, "--scale", "1")[:2] == found[:2]
    assert run_command("eval", tmp_path / "run", as_stated, "--scale", "0.02")[:2] == found[:2]
    other = Settings(**given, data=Data(as_bytes, as_floats, scale=0.02), **arguments)
    with pytest.raises(
        UserError, match=r"floats\.h5: .* convert them to the same kind, or give each data set a scale "
    ):
        train(other, OneProcess(), Start(quiet=True, fresh=True))


@pytest.fixture
def spoiled(tmp_path):
    """Return a file of which three examples are not finite: as they are stored, in float32, and as outputs."""
    inputs = X.copy()
    inputs[7, 2], inputs[9, 0], inputs[11] = np.nan, 1e300, 3e38
    return write(tmp_path / "spoiled.h5", inputs)


def test_numbers_that_are_not_finite_are_refused(trained, run_command, tmp_path, spoiled):
    code, out, err = run_command("predict", trained, spoiled, tmp_path / "p.h5")
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert "spoiled.h5: example 7 has no prediction, as its inputs contain nan as float32; remove it" in err
    assert "--not-finite mark" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spoiled.h5"]


def test_outputs_that_are_not_finite_are_the_fault_of_the_model(linear, run_command, tmp_path):
    inputs = X.copy()
    inputs[5] = 3e38  # finite in float32
    path = write(tmp_path / "huge.h5", inputs, X[:, :1], None, None)
    for command in (("predict", linear, path, tmp_path / "p.h5"), ("eval", linear, path)):
        code, out, err = run_command(*command)
        assert (code, out, err.count("\n")) == (70, "", 1), err
        assert "example 5" in err
    inputs[4] = 1e300  # infinite in float32
    path = write(tmp_path / "huge.h5", inputs, X[:, :1], None, None)
    for command in (("predict", linear, path, tmp_path / "p.h5"), ("eval", linear, path)):
        code, out, err = run_command(*command)
        assert (code, out, err.count("\n")) == (65, "", 1), err
        assert "example 4" in err


def test_examples_of_weight_0_may_have_any_numbers_and_are_not_counted(linear, run_command, tmp_path):
    inputs, weights = X.copy(), np.ones(len(X))
    inputs[[3, 8]], weights[[3, 5, 8]] = np.nan, 0
    path = write(tmp_path / "masked.h5", inputs, X[:, :1], None, None)
    with h5py.File(path, "r+") as file:
        file["weights"] = weights
    assert run_command("eval", linear, path)[1].endswith("  (57 examples)\n")
    code, out, err = run_command("predict", linear, path, tmp_path / "p.h5")
    assert (code, err) == (0, "")
    assert out.endswith("; 2 of them marked, as inputs or outputs are not finite: rows 3, 8\n")
    with h5py.File(tmp_path / "p.h5") as file:
        assert np.flatnonzero(np.isnan(file["outputs"][:, 0])).tolist() == [3, 8]
    rest = write(tmp_path / "rest.h5", X[weights > 0], X[weights > 0, :1], None, None)
    assert run_command("eval", linear, rest)[1].endswith("  (57 examples)\n")


def test_weights_of_data_that_means_something_else_are_warned_of(trained, tmp_path, capsys):
    data = write(tmp_path / "a.h5", X, Y, COLUMNS, [*CLASSES[1:], CLASSES[0]], scale=2.0)
    model = [nn.Dense(8, "tanh"), nn.Dense(3)]
    settings = Settings(model, "cross_entropy", data, Adam(1e-2), 1, 12, weights=str(trained), shards=1)
    train(settings, OneProcess(), Start())
    lines = [line for line in capsys.readouterr().out.splitlines() if "were trained on data that means" in line]
    assert len(lines) == 1
    assert "classes of targets: ant, bee, cät in the checkpoint, bee, cät, ant now; inputs are floats" in lines[0]
    same = Settings(model, "cross_entropy", str(trained.parent / "train.h5"), Adam(1e-2), 1, 12, weights=str(trained))
    train(same, OneProcess(), Start())
    assert "means something else" not in capsys.readouterr().out


def test_numbers_that_are_not_finite_are_marked_where_this_is_asked_for(trained, run_command, tmp_path, spoiled):
    code, out, err = run_command("predict", trained, spoiled, tmp_path / "p.h5", "--not-finite", "mark")
    assert (code, err) == (0, "")
    with h5py.File(tmp_path / "p.h5") as file:
        wrong = np.isnan(file["outputs"][:]).any(axis=1)
        assert np.flatnonzero(wrong).tolist() == [7, 9, *np.flatnonzero(wrong)[2:]]
        assert np.array_equal(wrong, np.isnan(file["outputs"][:]).all(axis=1))
        assert np.array_equal(file["classes"][:] == -1, wrong)
        assert np.array_equal(file["labels"][:] == b"", wrong)
        assert np.isnan(file["probabilities"][wrong]).all()
    rows = ", ".join(map(str, np.flatnonzero(wrong)))
    text = f"; {wrong.sum()} of them marked, as inputs or outputs are not finite: rows {rows}\n"
    assert out == f"60 predictions written to {tmp_path / 'p.h5'}{text}"


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Return the folder of a run of a linear model."""
    folder = tmp_path_factory.mktemp("linear")
    data = Data(ArrayDataset(X, X[:, :1]))
    settings = Settings([nn.Dense(1)], "mean_squared_error", data, Adam(1e-2), 1, 12, shards=2, out=str(folder))
    train(settings, OneProcess(), Start(quiet=True))
    return folder


def test_a_cost_that_is_not_finite_names_the_example(linear, run_command, tmp_path):
    folder, inputs = linear, X.copy()
    inputs[[41, 23]] = 1e38
    path = write(tmp_path / "huge.h5", inputs, X[:, :1], None, None)
    what_if = ("neurons", folder, path, "--what-if", "dense_1/bias[0]=+1")
    for command in (("eval", folder, path), ("neurons", folder, path), what_if):
        inputs[[41, 23]] = 1e38 if command is not what_if else 1e308  # it computes in float64
        write(tmp_path / "huge.h5", inputs, X[:, :1], None, None)
        code, out, err = run_command(*command)
        assert (code, out, err.count("\n")) == (70, "", 1), err
        assert f"example 23 of {path}: " in err
        assert "; 2 of 60 examples have such a loss; remove such examples" in err


def test_predictions_may_be_a_table_with_labels_and_file_names(trained, linear, run_command, tmp_path):
    data = write(tmp_path / "data.h5")
    with h5py.File(data, "r+") as file:
        file["files"] = [f"{CLASSES[number]}/{row}.png" for row, number in enumerate(Y)]
    table, out = tmp_path / "p.csv", tmp_path / "p.h5"
    assert run_command("predict", trained, data, table) == (0, f"60 predictions written to {table}\n", "")
    assert run_command("predict", trained, data, out)[0] == 0
    names, *rows = table_in(table)
    assert names == ["file", "label", *CLASSES]
    with h5py.File(out) as file:
        labels, files = file["labels"].asstr()[:].tolist(), file["files"].asstr()[:].tolist()
        assert [row[:2] for row in rows] == [list(pair) for pair in zip(files, labels, strict=True)]
        assert files[0] == f"{CLASSES[Y[0]]}/0.png"
        numbers = np.array([row[2:] for row in rows], np.float32)
        np.testing.assert_array_equal(numbers, file["probabilities"][:])
    moved = write(tmp_path / "moved.h5", X[:, ::-1], Y, COLUMNS[::-1])
    assert run_command("predict", trained, moved, table, "--overwrite")[0] == 0
    assert [row[1:] for row in table_in(table)[1:]] == [row[1:] for row in rows]
    assert run_command("predict", linear, write(tmp_path / "a.h5", X, X[:, :1], None, None), tmp_path / "q.csv")[0] == 0
    assert (tmp_path / "q.csv").read_text().startswith("row,output\n0,")


@pytest.mark.parametrize("name", ["p.xls", "p.npy", "p.H5x"])
def test_a_file_that_is_neither_a_table_nor_hdf5_is_refused(trained, run_command, tmp_path, name):
    code, _, err = run_command("predict", trained, write(tmp_path / "data.h5"), tmp_path / name)
    assert (code, list(tmp_path.glob("p.*"))) == (2, [])
    assert f"but not as {name[1:]}; name p.csv or p.h5\n" in err


def test_standard_output_is_no_file_of_predictions(trained, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("predict", trained, write(tmp_path / "data.h5"), "-")
    assert (code, (tmp_path / "-").exists()) == (2, False)
    assert "OUT is -, but results go to a file; name one, such as out.csv\n" in err


def test_of_two_classes_the_probability_is_that_of_the_second(run_command, tmp_path):
    data = write(tmp_path / "train.h5", X, (Y > 0).astype(int), None, ["no", "yes"])
    settings = Settings([nn.Dense(1)], "binary_cross_entropy", data, Adam(3e-2), 9, 12, out=str(tmp_path / "run"))
    train(settings, OneProcess(), Start(quiet=True))
    assert run_command("predict", tmp_path / "run", data, tmp_path / "p.csv")[0] == 0
    names, *rows = table_in(tmp_path / "p.csv")
    assert names == ["row", "label", "yes"]
    assert all((float(row[2]) > 0.5) == (row[1] == "yes") for row in rows)


def test_outputs_have_the_names_of_targets_that_are_numbers(run_command, tmp_path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["inputs"], file["targets"] = X, X[:, :2]
        file["targets"].attrs["names"] = ["u", "v"]
    settings = Settings(
        [nn.Dense(2)], "huber", str(tmp_path / "train.h5"), Adam(1e-2), 1, 12, out=str(tmp_path / "run")
    )
    train(settings, OneProcess(), Start(quiet=True))
    assert run_command("predict", tmp_path / "run", tmp_path / "train.h5", tmp_path / "p.h5")[0] == 0
    with h5py.File(tmp_path / "p.h5") as file:
        assert list(file) == ["outputs"]
        assert file["outputs"].attrs["names"].tolist() == ["u", "v"]


def test_no_command_writes_over_what_it_reads(trained, run_command, tmp_path):
    data = write(tmp_path / "data.h5")
    run_folder = shutil.copytree(trained, tmp_path / "run")
    checkpoint = files_of(run_folder)[0]
    np.savez(tmp_path / "w.npz", w=X)
    (tmp_path / "t.csv").write_text("1,2\n")
    config = run_folder / "config.toml"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for read, command in (
        (data, ("predict", run_folder, data, data)),
        (checkpoint, ("predict", run_folder, data, checkpoint)),
        (checkpoint, ("predict", checkpoint, data, checkpoint)),
        (checkpoint, ("neurons", run_folder, data, "--out", checkpoint)),
        (tmp_path / "t.csv", ("convert", "csv", tmp_path / "t.csv", tmp_path / "t.csv")),
        (tmp_path / "w.npz", ("import", tmp_path / "w.npz", config, tmp_path / "w.npz")),
        (config, ("import", tmp_path / "w.npz", config, config)),
    ):
        code, out, err = run_command(*command, "--overwrite")
        assert (code, out) == (2, ""), command
        message = f"{command[-1]} is {read}, an input of this command; choose another name for the output"
        assert err == f"dbp: error: {message}\n"
    odd = tmp_path / "named.npz"
    shutil.copy(checkpoint, odd)
    assert "an input of this command" in run_command("export", odd, odd, "--overwrite")[2]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_ranks_refuse_and_mark_the_same_rows(trained, linear, tmp_path):
    inputs = np.tile(X, (20, 1))
    inputs[[700, 900]] = [[np.nan], [1e300]]  # the second rank's
    data, out = write(tmp_path / "data.h5", inputs, np.tile(Y, 20)), tmp_path / "p.h5"
    words = ("-m", "dbp", "predict", trained, data, out)
    refused = mpirun(2, *words)
    assert (refused.code, refused.out, refused.err.count("dbp: error")) == (65, "", 1)
    assert "example 700 has no prediction, as its inputs contain nan" in refused.err
    assert not out.exists()
    table = mpirun(2, *words[:-1], tmp_path / "p.csv", "--not-finite", "mark")
    assert table.code == 0, table.err
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert len(lines) == 1201
    assert [lines[1 + row] for row in (700, 900)] == ["700,,,,", "900,,,,"]
    assert all(line.startswith(f"{row},") for row, line in enumerate(lines[1:]))
    marked = mpirun(2, *words, "--not-finite", "mark")
    assert marked.out == (
        f"1,200 predictions written to {out}; 2 of them marked, as inputs or outputs are not finite: rows 700, 900\n"
    )
    with h5py.File(out) as file:
        assert np.flatnonzero(file["classes"][:] == -1).tolist() == [700, 900]
    inputs[[700, 900]] = [[0], [1e38]]
    write(tmp_path / "data.h5", inputs, inputs[:, :1], None, None)
    evaluated = mpirun(2, "-m", "dbp", "eval", linear, data)
    assert (evaluated.code, evaluated.out, evaluated.err.count("dbp: error")) == (70, "", 1)
    assert f"the cost is inf: example 900 of {data}: its loss is not finite, with inputs from 1e+38" in evaluated.err


def test_ranks_that_compute_with_other_kernels_are_refused(trained, tmp_path, run_command, monkeypatch):
    monkeypatch.setattr("dbp.run.provenance.differences", lambda _comm, _facts: {"blas": "two of them"})
    out = tmp_path / "out.h5"
    for words in (("eval", trained), ("neurons", trained), ("predict", trained)):
        code, shown, error = run_command(*words, tmp_path / "none.h5", *([out] if words[0] == "predict" else []))
        assert (code, shown, error.count("\n")) == (2, "", 1)
        assert "(blas: two of them); start them on nodes of one kind and one installation, or start one rank" in error
    assert not out.exists()


def test_columns_in_groups_and_several_files_have_names_that_may_be_stated(trained, run_command, tmp_path):
    for i, rows in enumerate((slice(0, 25), slice(25, 60))):
        with h5py.File(tmp_path / f"all-{i}.h5", "w") as file:
            file["test/x"], file["test/y"] = X[rows], Y[rows]
            file["test/x"].attrs["names"], file["test/y"].attrs["classes"] = COLUMNS, CLASSES
    expected = run_command("eval", trained, write(tmp_path / "one.h5"))
    names = ("--set", "data.inputs=x", "--set", "data.targets=y")
    assert run_command("eval", trained, f"{tmp_path}/all-*.h5:/test", *names)[:2] == expected[:2]
    code, _, text = run_command("eval", trained, f"{tmp_path}/all-0.h5:/test", "--set", "data.inputs=pixels")
    assert code == 2
    assert f"{tmp_path}/all-0.h5:/test: has no data set '/test/pixels'; it has test/x, test/y: name" in text
    assert run_command("predict", trained, f"{tmp_path}/all-*.h5:/test", tmp_path / "out.h5", *names)[0] == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["outputs"]) == 60
    assert run_command("neurons", trained, f"{tmp_path}/all-*.h5:/test", *names)[0] == 0
    for change in ("data.scale=2", "data.inputs", "inputs=x", "data.inputs="):
        code, _, text = run_command("eval", trained, tmp_path / "one.h5", "--set", change)
        assert code == 2
        assert "error: --set takes the name of a column (data.inputs=NAME, " in text

"""A trained model in the hand: the same numbers as the commands, whatever form its data has."""

import pickle
import sys

import h5py
import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.data import ArrayDataset, Dataset, Examples, HDF5Dataset, Ragged
from dbp.errors import UserError
from dbp.trained.trained_model import TrainedModel
from tests.jobs import PROGRAMS, mpirun
from tests.jobs import run as run_program
from tests.small_data import X, Y

COLUMNS, CLASSES = ["a", "b", "c", "d", "e"], ["ant", "bee", "cät"]
STORED = np.clip((X - X.min()) * 40, 0, 255).astype(np.uint8)  # as images are


def write(path, inputs=STORED, targets=Y, names=COLUMNS, **attributes):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, targets
        file["inputs"].attrs.update({"names": names, "scale": 1 / 255} | attributes)
        file["targets"].attrs["classes"] = CLASSES
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run on stored integers with a scale, its data and its result."""
    folder = tmp_path_factory.mktemp("hand")
    data = write(folder / "train.h5")
    model = dbp.fit(
        model=[nn.Dense(8, "tanh"), nn.Dense(3)],
        loss="cross_entropy",
        data=dbp.Data(data, validation=0.2, test=data, standardize="inputs"),
        optimizer="adam",
        epochs=3,
        batch_size=12,
        shards=2,
        quiet=True,
        out=folder / "run",
    )
    return folder / "run", data, model


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    """Return what `dbp predict` writes for that data, by name."""
    from dbp.cli import main

    out = tmp_path_factory.mktemp("written") / "p.h5"
    assert main(["predict", str(trained[0]), trained[1], str(out)]) == 0
    with h5py.File(out) as file:
        return {name: file[name].asstr()[:] if name == "labels" else file[name][:] for name in file}


def test_what_fit_returns_and_what_load_returns_is_the_same(trained):
    folder, _, model = trained
    loaded = dbp.load(folder)
    assert type(model) is type(loaded) is dbp.TrainedModel is TrainedModel
    assert {name: array.tolist() for name, array in model.weights.items()} == {
        name: array.tolist() for name, array in loaded.weights.items()
    }
    assert model.history == loaded.history
    assert (model.epoch, model.steps, model.classes) == (loaded.epoch, loaded.steps, loaded.classes)
    assert (loaded.epoch, loaded.classes, loaded.input_shape) == (3, tuple(CLASSES), (5,))
    assert loaded.meaning == model.meaning
    assert str(loaded.summary()) == str(model.summary())
    assert "total" in str(loaded.summary())
    assert (model.path, loaded.path.parent) == (folder, folder / "checkpoints")


def test_predictions_have_the_bits_that_the_command_writes(trained, written):
    folder, data, model = trained
    for one in (model, dbp.load(folder)):
        for given in (STORED, data, [data], {"inputs": STORED}, (STORED, Y), HDF5Dataset(data)):
            np.testing.assert_array_equal(one.predict(given), written["outputs"], strict=True)
    np.testing.assert_allclose(model.predict(STORED.tolist()), written["outputs"], rtol=1e-5)
    np.testing.assert_array_equal(model.predict_proba(STORED), written["probabilities"], strict=True)
    np.testing.assert_array_equal(model.predict_classes(STORED), written["classes"], strict=True)
    assert model.predict_classes(STORED, labels=True).tolist() == written["labels"].tolist()


def test_evaluation_has_the_figures_of_the_command(trained, run_command):
    folder, data, model = trained
    found = model.evaluate(data)
    assert found == model.test == model.evaluate((STORED, Y))
    assert found == dbp.load(folder).evaluate({"inputs": STORED, "targets": Y})
    line = run_command("eval", folder, data)[1]
    assert line.startswith(f"cost {found['cost']:.4f}  accuracy {found['accuracy']:.4f}")


def test_numbers_that_are_scaled_already_are_refused_unless_the_user_says_so(trained, written):
    model = trained[2]
    scaled = (STORED / 255).astype(np.float32)
    with pytest.raises(UserError, match=r"are floats, but .* integers with scale 0.00392157.*pass scale=1 if they"):
        model.predict(scaled)
    np.testing.assert_allclose(model.predict(scaled, scale=1), written["outputs"], rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=r"pass scale=0.00392156862745098 if they are in the same units"):
        model.predict(ArrayDataset(STORED, Y))
    with pytest.raises(UserError, match="scale goes with arrays and files"):
        model.predict(ArrayDataset(STORED, Y), scale=1 / 255)


class Frame:
    """A table with named columns, such as a DataFrame."""

    def __init__(self, values, columns):
        self._values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return self._values if dtype is None else self._values.astype(dtype)


def test_named_columns_are_brought_into_the_order_of_the_training(trained, written):
    model = trained[2]
    frame = Frame(STORED[:, ::-1], COLUMNS[::-1])
    np.testing.assert_array_equal(model.predict(frame), written["outputs"])
    with pytest.raises(UserError, match="inputs have the columns a, b, c, d, x, but those of the training data"):
        model.predict(Frame(STORED, ["a", "b", "c", "d", "x"]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (STORED[:, :4], r"inputs of shape \(4,\) do not fit the model, which was trained on inputs of shape \(5,\)"),
        (STORED[0], r"reshape one example to \(1, features\), or one feature to \(examples, 1\)"),
        (np.full((2, 5), "x"), "must be numbers"),
        ({"input": STORED}, "unknown column 'input'; did you mean 'inputs'"),
        ({"targets": Y}, "inputs are missing"),
        ((STORED, Y, Y, Y), "but has 4 parts"),
        ("nowhere.h5", "nowhere.h5"),
    ],
)
def test_data_that_does_not_fit_is_refused(trained, given, message):
    with pytest.raises(UserError, match=message):
        trained[2].predict(given)


def test_evaluation_needs_targets_that_fit(trained):
    with pytest.raises(UserError, match="targets are missing; give inputs and targets"):
        trained[2].evaluate(STORED)
    with pytest.raises(UserError, match="class"):
        trained[2].evaluate((STORED, Y + 3))


def test_rows_that_are_not_finite_are_refused_or_marked():
    model = dbp.fit(
        model=[nn.Dense(3)], loss="cross_entropy", data=(X, Y), optimizer="adam", epochs=1, batch_size=10, quiet=True
    )
    bad = X.copy()
    bad[4, 1] = np.nan
    with pytest.raises(UserError, match=r"example 4 .*not_finite='mark' from Python"):
        model.predict(bad)
    found = model.predict(bad, not_finite="mark")
    assert np.isnan(found[4]).all()
    np.testing.assert_array_equal(np.delete(found, 4, axis=0), model.predict(np.delete(X, 4, axis=0)))
    assert model.predict_classes(bad, not_finite="mark")[4] == -1
    with pytest.raises(UserError, match="unknown not_finite 'drop'"):
        model.predict(X, not_finite="drop")
    with pytest.raises(UserError, match="labels need names of classes"):
        model.predict_classes(X, labels=True)


def test_a_loss_of_numbers_has_no_classes():
    model = dbp.fit(
        model=[nn.Dense(2)], loss="huber", data=(X, X[:, :2]), optimizer="adam", epochs=1, batch_size=10, quiet=True
    )
    assert model.classes is None
    with pytest.raises(UserError, match=r"loss 'huber' knows no probabilities .*use predict\(\)"):
        model.predict_proba(X)


def test_a_saved_model_is_a_checkpoint_for_every_command(trained, run_command, tmp_path, written):
    folder, data, model = trained
    saved = tmp_path / "model.h5"
    model.save(saved)
    with pytest.raises(UserError, match="exists; choose another name or pass overwrite=True"):
        model.save(saved)
    dbp.load(saved).save(tmp_path / "again.h5")
    for path in (saved, tmp_path / "again.h5"):
        loaded = dbp.load(path)
        np.testing.assert_array_equal(loaded.predict(STORED), written["outputs"])
        assert (loaded.history, loaded.classes) == (model.history, model.classes)
    assert run_command("eval", saved, data) == run_command("eval", folder, data)
    assert run_command("predict", saved, data, tmp_path / "p.h5")[0] == 0
    assert run_command("export", saved, tmp_path / "w.npz")[0] == 0
    begun = dbp.fit(
        model=[nn.Dense(8, "tanh"), nn.Dense(3)],
        loss="cross_entropy",
        data=dbp.Data(data, standardize={"from": str(saved)}),
        optimizer="adam",
        epochs=0,
        batch_size=12,
        weights=saved,
        quiet=True,
    )
    np.testing.assert_array_equal(begun.predict(STORED), written["outputs"])


def test_a_model_of_arrays_is_exported_without_its_data(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = dbp.fit(
        model=[nn.Dense(3, "tanh"), nn.Dense(2)],
        loss="mean_squared_error",
        data=dbp.Data((X, X[:, :2]), standardize="both", scale=2.0),
        optimizer="adam",
        epochs=1,
        batch_size=10,
        quiet=True,
    )
    model.save(tmp_path / "m.h5")
    for name, one in (("a.onnx", model), ("b.onnx", dbp.load(tmp_path / "m.h5"))):
        one.export(tmp_path / name)
        session = runtime.InferenceSession(tmp_path / name)
        (outputs,) = session.run(None, {"inputs": X.astype(np.float32)})
        np.testing.assert_allclose(outputs, model.predict(X), rtol=1e-4, atol=1e-5)
    model.export(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="exists; choose another name or pass overwrite=True"):
        model.export(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"must end in .safetensors, .npz or .onnx"):
        model.export(tmp_path / "w.bin")


def test_it_holds_no_training_data_and_can_be_pickled(trained):
    data = np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
    model = dbp.fit(
        model=[nn.Dense(1)],
        loss="mean_squared_error",
        data=(data, data[:, :1]),
        optimizer="adam",
        epochs=1,
        batch_size=100,
        quiet=True,
    )
    text = pickle.dumps(model)
    assert len(text) < data.nbytes / 2
    np.testing.assert_array_equal(pickle.loads(text).predict(data), model.predict(data))
    assert pickle.loads(pickle.dumps(trained[2])).evaluate((STORED, Y)) == trained[2].test


def test_sequences_of_unequal_length_and_masks():
    rows = [np.full((length, 2), length, np.float32) for length in (3, 1, 5, 2)]
    ragged = Ragged.of(rows)
    model = dbp.fit(
        model=[nn.Dense(1)],
        loss="mean_squared_error",
        data={"inputs": ragged, "targets": Ragged.of([row[:, :1] for row in rows])},
        optimizer="adam",
        epochs=1,
        batch_size=2,
        quiet=True,
    )
    found = model.predict(ragged)
    lengths = np.isfinite(found[..., 0]).sum(axis=1)
    assert lengths.tolist() == [3, 1, 5, 2]
    padded, mask = ragged.read(slice(None)), ragged.mask(slice(None))
    np.testing.assert_array_equal(model.predict({"inputs": padded, "mask": mask}), found)
    assert model.input_shape is None
    with pytest.raises(UserError, match="pass it: --input 28,28,1, or from Python input_shape="):
        model.summary()


class Double:
    kind = "double"

    def __call__(self, _scope, x):
        return x * 2.0


def test_a_model_of_ones_own_code_is_given_again(tmp_path):
    settings = {"loss": "cross_entropy", "data": (X, Y), "optimizer": "adam", "epochs": 1, "batch_size": 10}
    layers = [Double(), nn.Dense(3)]
    model = dbp.fit(model=layers, **settings, quiet=True)
    model.save(tmp_path / "m.h5")
    with pytest.raises(UserError, match=r"Python code 'Double', .*dbp.load\(path, model=...\)"):
        dbp.load(tmp_path / "m.h5")
    np.testing.assert_array_equal(dbp.load(tmp_path / "m.h5", model=layers).predict(X), model.predict(X))


class Counted(Dataset):
    """A data set that notes how many rows are read at a time."""

    name, scale, most = "counted", None, 0

    def __len__(self):
        return 3000

    def read(self, rows):
        inputs = np.zeros((len(range(*rows.indices(len(self)))), 5), np.float32)
        self.most = max(self.most, len(inputs))
        return Examples({"inputs": inputs})


def test_rows_are_read_some_at_a_time():
    model = dbp.fit(
        model=[nn.Dense(3)], loss="cross_entropy", data=(X, Y), optimizer="adam", epochs=0, batch_size=10, quiet=True
    )
    data = Counted()
    assert model.predict(data).shape == (3000, 3)
    assert data.most <= 512


def test_it_says_what_it_is(trained):
    folder, _, model = trained
    assert repr(model) == (
        "<dbp.TrainedModel\n"
        f"  dense, dense: 75 weights in float32, after 3 epochs, {model.steps} steps\n"
        "  classes: ant, bee, cät\n"
        f"  test: cost {model.test['cost']:.4f}  accuracy {model.test['accuracy']:.4f}\n"
        f"  from {folder}>"
    )
    assert "validation: cost" in repr(dbp.load(folder))


def test_it_has_the_same_bits_on_any_number_of_ranks_and_starts_no_mpi_alone(tmp_path):
    program, root = PROGRAMS / "trained_model.py", {"PYTHONPATH": str(PROGRAMS.parent.parent)}
    outcomes = [mpirun(ranks, program, cwd=tmp_path, env=root) for ranks in (1, 2, 3)]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes[-1].text
    assert len({outcome.out for outcome in outcomes}) == 1
    code = "import dbp, sys; dbp.load('model.h5').predict([[0.0] * 5]); print('mpi4py.MPI' in sys.modules)"
    assert run_program(sys.executable, "-c", code, cwd=tmp_path).out == "False\n"
    other = mpirun(2, program, "other", cwd=tmp_path, env=root)
    assert other.code == 2
    assert other.err.count("give all ranks the same arrays, whole") == 1


def test_each_call_is_of_its_own_data_and_of_the_weights_of_that_moment():
    model = dbp.fit(
        model=[nn.Conv2d(2, 1), nn.GlobalAveragePool(), nn.Dense(1)],
        loss="mean_squared_error",
        data=dbp.Data((X.reshape(60, 5, 1, 1), X[:, :1]), scale=2.0),
        optimizer="adam",
        epochs=1,
        batch_size=10,
        quiet=True,
    )
    images = X.reshape(60, 5, 1, 1)
    whole = model.predict(images)
    np.testing.assert_allclose(model.predict(images[:7]), whole[:7], rtol=1e-6)
    np.testing.assert_allclose(model.predict(2 * images, scale=1.0), whole, rtol=1e-5)
    assert model.predict(np.concatenate([images, images], axis=1)).shape == (60, 1)  # of another shape
    np.testing.assert_array_equal(model.predict(images), whole)
    model.weights["dense_1/bias"] = model.weights["dense_1/bias"] + 1
    np.testing.assert_allclose(model.predict(images), whole + 1, rtol=1e-5)


def test_a_model_that_writes_to_its_inputs_leaves_the_arrays_of_the_user_as_they_are():
    def centered(scope, x):
        x -= 3
        return x @ scope.parameter("weight", (x.shape[1], 3))

    given = X.astype(np.float32)
    model = dbp.fit(
        model=centered, loss="cross_entropy", data=(given, Y), optimizer="adam", epochs=1, batch_size=12, quiet=True
    )
    outputs = (given - 3) @ model.weights["weight"]
    for _ in range(2):
        np.testing.assert_allclose(model.predict(given), outputs, rtol=1e-5, atol=1e-5)
        model.evaluate((given, Y))
    np.testing.assert_array_equal(given, X.astype(np.float32))


def test_a_metric_that_writes_to_targets_leaves_the_arrays_of_the_user_as_they_are():
    def sums(_, targets, weights):
        targets[:] = 0
        return [weights.sum()]

    metric = dbp.metrics.Metric("own", sums, lambda found: found[0], larger_is_better=True)
    x = X.astype(np.float32)
    options = {"optimizer": "adam", "epochs": 1, "batch_size": 12, "quiet": True, "shards": 1}
    model = dbp.fit(model=[nn.Dense(5)], loss="mean_squared_error", data=(x, x), metrics=[metric], **options)
    model.evaluate((x, x))
    np.testing.assert_array_equal(x, X.astype(np.float32))

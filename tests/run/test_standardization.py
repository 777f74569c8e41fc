"""Runs whose inputs and targets are standardized, and all that uses their models."""

import csv
import re
import sys

import h5py
import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.config.settings import Data, Settings
from dbp.data import ArrayDataset, Ragged, parse_meaning
from dbp.errors import UserError
from dbp.exchange import export, import_weights
from dbp.insight import neurons, what_if
from dbp.optim import Adam
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.jobs import digest, mpirun, newest_checkpoint

RNG = np.random.default_rng(0)
X = RNG.standard_normal((240, 3)) * [1, 1e-3, 1e5] + [0, 5, 1e6]
Y = 300 + 50 * np.stack([np.sin(X[:, 0]), (X[:, 2] - 1e6) / 1e5], axis=1)
NAMES, TARGETS = ["a", "b", "c"], ["u", "v"]


def write(path, inputs=X, targets=Y, names=NAMES):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, targets
        file["inputs"].attrs["names"], file["targets"].attrs["names"] = names, TARGETS
        file["targets"].attrs["units"] = ["K", "K"]
    return str(path)


def settings(data, out=None, loss="mean_squared_error", epochs=40, **more):
    out = None if out is None else str(out)
    return Settings([nn.Dense(12, "tanh"), nn.Dense(2)], loss, data, Adam(3e-2), epochs, 40, shards=2, out=out, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with the data and the run that standardized both, and its result."""
    folder = tmp_path_factory.mktemp("standardized")
    path = write(folder / "train.h5")
    data = Data(path, validation=0.25, test=path, standardize="both")
    return folder, train(settings(data, folder / "run"), OneProcess(), Start(quiet=True))


def test_mean_and_deviation_of_the_training_part_are_kept_with_the_model(trained):
    meaning = parse_meaning(newest_checkpoint(trained[0] / "run").meaning)
    inputs, targets = meaning["inputs"], meaning["targets"]
    assert inputs.mean == pytest.approx(X.mean(axis=0), rel=0.3, abs=0.3)
    assert inputs.mean != pytest.approx(X.mean(axis=0), rel=1e-9)  # not of the validation part
    assert inputs.deviation == pytest.approx(X.std(axis=0), rel=0.3)
    assert targets.deviation == pytest.approx(Y.std(axis=0), rel=0.3)
    assert (inputs.names, targets.units) == (tuple(NAMES), ("K", "K"))


def test_metrics_are_in_the_units_of_the_data_and_the_cost_is_not(trained, run_command):
    folder, result = trained
    assert result.test["cost"] < 0.1
    assert 0.5 < result.test["mean_absolute_error"] < 0.3 * 50
    figures = run_command("eval", folder / "run", folder / "train.h5")[1]
    assert figures.startswith(f"cost {result.test['cost']:.4g}"[:9])
    assert f"{result.test['mean_absolute_error']:.4g}"[:4] in figures
    assert 0.5 < result.history["validation_mean_absolute_error"][-1] < 0.3 * 50


def test_predictions_are_in_the_units_of_the_data(trained, run_command, tmp_path):
    folder, result = trained
    moved = write(tmp_path / "moved.h5", X[:, ::-1], Y, NAMES[::-1])
    for data, out in ((folder / "train.h5", tmp_path / "p.csv"), (moved, tmp_path / "q.csv")):
        assert run_command("predict", folder / "run", data, out)[0] == 0
    names, *rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))
    assert names == ["row", *TARGETS]
    predicted = np.array([row[1:] for row in rows], float)
    assert np.abs(predicted - Y).mean() == pytest.approx(result.test["mean_absolute_error"], rel=1e-4)
    assert (tmp_path / "q.csv").read_text() == (tmp_path / "p.csv").read_text()
    assert run_command("predict", folder / "run", folder / "train.h5", tmp_path / "p.h5")[0] == 0
    with h5py.File(tmp_path / "p.h5") as file:
        np.testing.assert_array_equal(file["outputs"][:], predicted.astype(np.float32))
        assert (file["outputs"].attrs["names"].tolist(), file["outputs"].attrs["units"].tolist()) == (
            TARGETS,
            ["K", "K"],
        )


def test_neurons_and_onnx_use_it_too(trained, run_command, tmp_path):
    folder, result = trained
    assert run_command("neurons", folder / "run", folder / "train.h5")[0] == 0
    runtime = pytest.importorskip("onnxruntime")
    export(folder / "run", tmp_path / "m.onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    (outputs,) = session.run(None, {"inputs": X.astype(np.float32)})
    assert np.abs(outputs - Y).mean() == pytest.approx(result.test["mean_absolute_error"], rel=1e-2)


def test_a_trained_model_is_used_from_python_with_the_moments_of_its_run(trained):
    folder, result = trained
    path, model = str(folder / "train.h5"), [nn.Dense(12, "tanh"), nn.Dense(2)]
    like = Data(path, standardize={"from": str(folder / "run")})
    found = neurons(model, "mean_squared_error", result.weights, like)
    assert found.cost == pytest.approx(result.test["cost"], rel=1e-5)
    assert neurons(model, "mean_squared_error", result.weights, path, meaning=result.meaning).cost == found.cost
    changes = what_if(model, "mean_squared_error", result.weights, {}, path, meaning=result.meaning)
    assert changes.cost == pytest.approx(found.cost, rel=1e-4)
    assert neurons(model, "mean_squared_error", result.weights, path).cost > 1e3
    with pytest.raises(UserError, match=r"data\.standardize must be { from = RUN } where a trained model is used"):
        neurons(model, "mean_squared_error", result.weights, Data(path, standardize="both"))


def test_a_resumed_run_takes_it_from_its_checkpoint(trained, tmp_path, monkeypatch):
    data = Data(str(trained[0] / "train.h5"), standardize="both")
    whole = settings(data, tmp_path / "whole", epochs=4)
    train(whole, OneProcess(), Start(quiet=True))
    train(settings(data, tmp_path / "parts", epochs=2), OneProcess(), Start(quiet=True))
    monkeypatch.setattr("dbp.reading.moments.moments_of", None)
    train(settings(data, tmp_path / "parts", epochs=4), OneProcess(), Start(quiet=True))
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    kept, made = (newest_checkpoint(tmp_path / name).meaning for name in ("parts", "whole"))
    assert kept == made


def test_another_run_spares_the_pass(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    path = str(folder / "train.h5")
    monkeypatch.setattr("dbp.reading.moments.moments_of", None)
    like = Data(path, standardize={"from": folder / "run"})
    train(settings(like, tmp_path / "run", epochs=1), OneProcess(), Start())
    said = (
        f"inputs and targets standardized by the moments of {folder / 'run'}; the cost is in these units, metrics and"
    )
    assert said in capsys.readouterr().out
    found, source = (parse_meaning(newest_checkpoint(one / "run").meaning) for one in (tmp_path, folder))
    assert found == source
    assert f'from = "{folder / "run"}"' in (tmp_path / "run" / "config.toml").read_text()
    train(settings(like, tmp_path / "run", epochs=2), OneProcess(), Start(quiet=True))
    plain = settings(Data(path), tmp_path / "plain", epochs=1)
    train(plain, OneProcess(), Start(quiet=True))
    with pytest.raises(UserError, match=r"standardize\.from: .*plain was trained without data\.standardize"):
        train(settings(Data(path, standardize={"from": str(tmp_path / "plain")})), OneProcess(), Start(quiet=True))
    other = write(tmp_path / "other.h5", names=["a", "b", "d"])
    with pytest.raises(UserError, match=r"does not fit the training data: names of inputs: a, b, c in .*, a, b, d now"):
        train(settings(Data(other, standardize=like.standardize)), OneProcess(), Start(quiet=True))


def test_a_data_file_has_mean_and_deviation_too(trained, tmp_path, monkeypatch, capsys):
    path, rows, model = str(trained[0] / "train.h5"), slice(0, 60), [nn.Dense(12, "tanh"), nn.Dense(2)]
    part = write(tmp_path / "part.h5", X[rows], Y[rows])
    moved = write(tmp_path / "moved.h5", X[:, ::-1], Y, NAMES[::-1])  # in the order of other names
    for columns, expected in ((None, 1), ("both", 2)):
        out = tmp_path / f"{columns}"
        like = {"from": moved} | ({} if columns is None else {"columns": columns})
        train(settings(Data(part, standardize=like), out, epochs=1), OneProcess(), Start())
        assert f"standardized by mean and deviation of 240 examples in {moved}" in capsys.readouterr().out
        found = parse_meaning(newest_checkpoint(out).meaning)
        assert found["inputs"].mean == pytest.approx(X.mean(axis=0), rel=1e-9)
        assert found["inputs"].deviation == pytest.approx(X.std(axis=0), rel=1e-6)
        assert sum(one.mean is not None for one in found.values()) == expected
    monkeypatch.setattr("dbp.reading.moments.moments_of", None)
    train(settings(Data(part, standardize=like), tmp_path / "both", epochs=2), OneProcess(), Start(quiet=True))
    with pytest.raises(UserError, match=r"moved\.h5 is data, of which only a training finds mean and deviation; name"):
        neurons(model, "mean_squared_error", trained[1].weights, Data(path, standardize=like))
    with pytest.raises(UserError, match=r"unknown data\.standardize\.columns 'all'; valid: both, inputs, targets"):
        Data(path, standardize={"from": path, "columns": "all"})


def test_it_is_as_if_the_data_had_been_standardized():
    data = Data((X, Y), standardize="both")
    result = train(settings(data, epochs=5, dtype="float64"), OneProcess(), Start(quiet=True))
    x, y = ((one - one.mean(axis=0)) / one.std(axis=0) for one in (X, Y))
    by_hand = train(settings(Data((x, y)), epochs=5, dtype="float64"), OneProcess(), Start(quiet=True))
    for name, array in by_hand.weights.items():
        np.testing.assert_allclose(result.weights[name], array, rtol=1e-6, atol=1e-9)
    assert result.history["cost"] == pytest.approx(by_hand.history["cost"], rel=1e-9)
    error = result.history["mean_absolute_error"][-1]
    assert error == pytest.approx(by_hand.history["mean_absolute_error"][-1] * Y.std(axis=0).mean(), rel=0.1)


def test_what_is_filled_in_has_no_influence_however_sequences_are_given(capsys):
    lengths = RNG.integers(3, 12, 60)
    x, mask = 50 + RNG.standard_normal((60, 12, 3)) * [1, 100, 5], np.arange(12) < lengths[:, None]
    y = np.array([row[:length].mean() for row, length in zip(x, lengths, strict=True)])

    def trained_on(inputs, standardize="both", **mask):
        data = Data({"inputs": inputs, "targets": y, **mask}, validation=0.2, standardize=standardize)
        model = [nn.Dense(4, "tanh"), nn.GlobalAveragePool(), nn.Dense(1)]
        run = Settings(model, "mean_squared_error", data, Adam(1e-2), 2, 12, shards=2)
        return digest_arrays(train(run, OneProcess(), Start()).weights)

    ragged = Ragged.of([row[:length] for row, length in zip(x, lengths, strict=True)])
    filled = [trained_on(np.where(mask[..., None], x, fill), mask=mask) for fill in (0.0, 1e20)]
    assert len({trained_on(ragged), *filled}) == 1
    trained_on(np.where(mask[..., None], x, [1e20, 1, 1]), None, mask=mask)
    assert "warning: " not in capsys.readouterr().out


def test_constant_columns_and_columns_of_many_sizes_are_said(capsys):
    x = X.copy()
    x[:, 1] = 7
    data = ArrayDataset(x, Y, input_names=NAMES)
    train(settings(Data(data, standardize="inputs"), epochs=1), OneProcess(), Start())
    out = capsys.readouterr().out
    assert "inputs standardized by mean and deviation of 240 training examples\n" in out
    assert "warning: inputs are constant in b, whose deviation is left at 1\n" in out
    assert "orders of magnitude" not in out
    train(settings(Data(data), epochs=1), OneProcess(), Start())
    warning = (
        r"inputs range over many orders of magnitude, from [\d.]+ \(a\) to 1\.\de\+06 \(c\), so that the small ones "
    )
    assert re.search(warning + r'hardly count; set data\.standardize = "inputs"', capsys.readouterr().out)


def test_large_targets_are_warned_of_and_placeholders_are_not(capsys):
    weights = np.ones(240)
    weights[::2], x, y = 0, X / X.std(axis=0), Y / 1e3
    x[::2], y[::2] = 1e30, 1e30
    train(settings(Data((x, y, weights)), epochs=1), OneProcess(), Start())
    assert "warning: " not in capsys.readouterr().out
    train(settings(Data((x, 1e6 * y, weights)), epochs=1), OneProcess(), Start())
    said = r'targets are up to [\d.]+e\+05 in size, which .* after many steps only; set data.standardize = "targets"'
    assert re.search(said, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("input", r"unknown data\.standardize 'input'; did you mean 'inputs'"),
        (3, r'data\.standardize must be "inputs", .* or \{ from = "a run, a checkpoint or a data file" \}, but is 3'),
        ({"of": "x"}, r"data\.standardize must be"),
    ],
)
def test_other_values_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        Data("x.h5", standardize=given)


def test_a_config_may_have_a_scale_and_a_shift_for_each_column(trained, run_command, tmp_path):
    data = Data(str(trained[0] / "train.h5"), scale=[1, 1000, 1e-5], shift=[0.0, -5000, -10])
    train(settings(data, tmp_path / "run", epochs=1), OneProcess(), Start(quiet=True))
    code, out, _ = run_command("train", tmp_path / "run" / "config.toml", "--set", "epochs=2")
    assert code == 0, out
    assert "orders of magnitude" not in out
    inputs = parse_meaning(newest_checkpoint(tmp_path / "run").meaning)["inputs"]
    assert (inputs.scale, inputs.shift) == ((1.0, 1000.0, 1e-5), (0.0, -5000.0, -10.0))
    config = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "short.toml").write_text(config.replace("scale = [1.0, 1000.0, 1e-05]", "scale = [1.0, 2.0]"))
    code, _, err = run_command("train", tmp_path / "short.toml", "--out", tmp_path / "other")
    assert (code, err.count("scale has 2 numbers, but there are 3 columns; give one for each, or one")) == (2, 1)


def test_classes_are_not_standardized(trained):
    y = np.arange(240) % 2
    with pytest.raises(UserError, match=r"data\.standardize must leave out targets with the loss cross_entropy"):
        settings(Data((X, y), standardize="both"), loss="cross_entropy")
    with pytest.raises(UserError, match=r'or say what .* FunctionLoss\(function, targets_are="numbers"\)'):
        settings(Data((X, y), standardize="both"), loss=lambda outputs, targets: (outputs - targets) ** 2)
    like = {"from": str(trained[0] / "run")}
    with pytest.raises(UserError, match=r"run has standardized targets, which the loss cross_entropy does not take"):
        train(settings(Data((X, y), standardize=like), loss="cross_entropy"), OneProcess(), Start(quiet=True))
    data = ArrayDataset(X, np.eye(2)[y], classes=["no", "yes"])
    with pytest.raises(UserError, match=r"data\.standardize must leave out targets that are classes"):
        train(settings(Data(data, standardize="targets")), OneProcess(), Start(quiet=True))


def test_a_column_by_its_name_stands_in_a_list():
    with pytest.raises(UserError, match=r"must be a list of columns, but is 'targets\.e'; write \[\"targets\.e\"\]"):
        Data((X, X), standardize="targets.e")


def test_a_target_without_a_loss_is_named_before_standardization():
    data = Data({"inputs": X, "targets": {"sort": np.arange(240) % 2, "e": X[:, 0]}}, standardize=["targets.e"])
    chosen = settings(data, loss={"sort": "cross_entropy"})
    with pytest.raises(UserError, match="loss has none for the target e; add it"):
        train(chosen, OneProcess(), Start(quiet=True))


def test_weights_that_were_trained_with_another_mean_are_warned_of(trained, capsys):
    folder, _ = trained
    path, weights = str(folder / "train.h5"), str(folder / "run")
    warning = (
        f"warning: weights {weights} were trained with another mean and deviation of the data; to keep theirs, set"
    )
    for standardize, warned in ((None, True), ("inputs", True), ({"from": weights}, False)):
        data = Data(path, standardize=standardize)
        train(settings(data, epochs=1, weights=weights), OneProcess(), Start())
        assert (warning in capsys.readouterr().out) is warned


def test_imported_weights_need_the_moments_of_their_training(trained, tmp_path):
    folder, result = trained
    np.savez(tmp_path / "w.npz", **result.weights)
    config = (folder / "run" / "config.toml").read_text()
    (tmp_path / "c.toml").write_text(config)
    with pytest.raises(
        UserError, match=r"data\.standardize must name the run whose mean and deviation imported weights"
    ):
        import_weights(tmp_path / "w.npz", tmp_path / "c.toml", tmp_path / "w.h5")
    (tmp_path / "c.toml").write_text(
        config.replace('standardize = "both"', f'standardize = {{ from = "{folder}/run" }}')
    )
    import_weights(tmp_path / "w.npz", tmp_path / "c.toml", tmp_path / "w.h5")
    found, source = (parse_meaning(one.meaning) for one in map(newest_checkpoint, (tmp_path / "w.h5", folder / "run")))
    assert found == source


@pytest.mark.slow
def test_any_number_of_ranks_finds_the_same_bits(tmp_path):
    """Compare weights, mean and deviation on 1, 2, 3 and 5 ranks, over chunks with weights; one run is resumed."""
    rows = np.arange(4000) % len(X)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("inputs", data=np.repeat(X[rows], 40, axis=1), chunks=(256, 120), compression="gzip")
        file["targets"], file["weights"] = Y[rows], (np.arange(4000) % 3).astype(float)
    (tmp_path / "c.toml").write_text(
        "epochs = 2\nbatch_size = 500\nshards = 5\nloss = 'mean_squared_error'\n"
        "[model]\nlayers = [{ kind = 'dense', units = 2 }]\n[optimizer]\nkind = 'adam'\n"
        "[data]\ntrain = 'd.h5'\nvalidation = 0.2\nstandardize = 'both'\n"
    )
    for ranks in (1, 2, 3, 5):
        words = ("-m", "dbp", "train", tmp_path / "c.toml", "--out", tmp_path / f"run-{ranks}")
        if ranks == 3:
            assert mpirun(2, *words, "--set", "epochs=1").code == 0
        outcome = mpirun(ranks, *words, env={"DBP_NODE_SIZES": "2,3"} if ranks == 5 else None)
        assert outcome.code == 0, outcome.text
    kept = [newest_checkpoint(tmp_path / f"run-{ranks}") for ranks in (1, 2, 3, 5)]
    assert len({one.meaning for one in kept}) == 1
    assert len({digest_arrays(one.model) for one in kept}) == 1
    assert parse_meaning(kept[0].meaning)["targets"].deviation is not None
    predicted = [
        mpirun(n, "-m", "dbp", "predict", tmp_path / "run-1", tmp_path / "d.h5", tmp_path / f"{n}.h5") for n in (1, 3)
    ]
    assert [one.code for one in predicted] == [0, 0]
    with h5py.File(tmp_path / "1.h5") as one, h5py.File(tmp_path / "3.h5") as other:
        assert one["outputs"][:].tobytes() == other["outputs"][:].tobytes()


@pytest.mark.slow
def test_mpich_finds_the_same_bits(tmp_path, mpich_python):
    (tmp_path / "c.toml").write_text(
        "epochs = 2\nbatch_size = 60\nshards = 3\nloss = 'mean_squared_error'\noptimizer = 'adam'\n"
        "model.layers = [{ kind = 'dense', units = 2 }]\ndata = { train = 'd.h5', standardize = 'both' }\n"
    )
    write(tmp_path / "d.h5")
    for ranks, python in ((1, sys.executable), (3, mpich_python)):
        words = ("-m", "dbp", "train", tmp_path / "c.toml", "--out", tmp_path / f"run-{ranks}")
        outcome = mpirun(ranks, *words, python=python)
        assert outcome.code == 0, outcome.text
    one, other = (newest_checkpoint(tmp_path / f"run-{ranks}") for ranks in (1, 3))
    assert (one.meaning, digest_arrays(one.model)) == (other.meaning, digest_arrays(other.model))

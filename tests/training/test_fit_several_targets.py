"""Two inputs and two targets from files to predictions: HDF5 in one piece and in chunks, and what bad input gets."""

import h5py
import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.data import Dataset, Examples
from dbp.errors import UserError

RNG = np.random.default_rng(0)
ROWS = 60
IMAGES, META = RNG.integers(0, 256, (ROWS, 4, 4, 1), np.uint8), RNG.normal(20, 5, (ROWS, 3)).astype("f4")
LABELS, ENERGY = RNG.integers(0, 2, ROWS), (META.sum(axis=1, keepdims=True) * 10).astype("f4")
WEIGHTS = (np.arange(ROWS) % 3 > 0).astype("f4")
ENERGY[WEIGHTS == 0] = np.nan  # a missing target
NAMES = {"inputs": {"image": "img", "meta": "x"}, "targets": {"label": "y", "energy": "e"}, "weights": {"energy": "w"}}
ARRAYS = {
    "inputs": {"image": IMAGES, "meta": META},
    "targets": {"label": LABELS, "energy": ENERGY},
    "weights": {"energy": WEIGHTS},
}
LOSS = {"label": "cross_entropy", "energy": {"kind": "mean_squared_error", "weight": 0.1}}
REST = {"loss": LOSS, "optimizer": "adam", "epochs": 2, "batch_size": 20, "quiet": True}


def model(scope, x):
    image = nn.Sequential(nn.Flatten(), nn.Dense(4, "tanh"))(scope.inside("image"), x["image"])
    meta = nn.Dense(4, "tanh")(scope.inside("meta"), x["meta"])
    return {"label": nn.Dense(2)(scope.inside("label"), image), "energy": nn.Dense(1)(scope.inside("energy"), meta)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a file in one piece, and one in packed chunks."""
    folder = tmp_path_factory.mktemp("data")
    columns = {"img": IMAGES, "x": META, "y": LABELS, "e": ENERGY, "w": WEIGHTS}
    for name, chunk in (("plain.h5", 0), ("chunked.h5", 15)):
        with h5py.File(folder / name, "w") as file:
            for key, values in columns.items():
                packed = {"chunks": (chunk, *values.shape[1:]), "compression": "gzip"} if chunk else {}
                file.create_dataset(key, data=values, **packed)
            file["img"].attrs["scale"] = 1 / 255
            file["y"].attrs["classes"] = ["cat", "dog"]
            file["e"].attrs["units"] = "eV"
    return folder


def fitted(train, **changes):
    data = dbp.Data(train, standardize=["inputs.meta", "targets.energy"], order="rows", **NAMES, **changes)
    return dbp.fit(model=model, data=data, **REST)


def test_data_in_chunks_and_in_one_piece_gives_the_same_weights(files):
    plain, chunked = (fitted(str(files / name)) for name in ("plain.h5", "chunked.h5"))
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(array, chunked.weights[name])
    assert plain.classes == {"label": ("cat", "dog")}
    assert plain.meaning["targets.energy"].mean == pytest.approx(np.nanmean(ENERGY), rel=1e-6)
    assert plain.meaning["inputs.image"].mean is None
    assert plain.meaning["inputs.image"].scale == pytest.approx(1 / 255)


def test_what_a_run_reports_predicts_and_evaluates_is_by_target(files, tmp_path):
    data = dbp.Data(str(files / "plain.h5"), validation=0.25, standardize="both", **NAMES)
    stop = dbp.EarlyStopping(metric="validation_cost_energy")
    out = str(tmp_path / "run")
    result = dbp.fit(model=model, data=data, early_stopping=stop, metrics=["accuracy", "rmse"], out=out, **REST)
    assert {"cost", "cost_label", "validation_cost_energy", "accuracy_label", "rmse_energy"} <= result.history.keys()
    last = {name: column[-1] for name, column in result.history.items()}
    np.testing.assert_allclose(last["cost"], last["cost_label"] + 0.1 * last["cost_energy"])
    loaded = dbp.load(out, model=model)
    found = loaded.predict({"image": IMAGES, "meta": META})
    assert {name: output.shape for name, output in found.items()} == {"label": (ROWS, 2), "energy": (ROWS, 1)}
    classes = loaded.predict_classes({"image": IMAGES, "meta": META}, output="label", labels=True)
    assert set(classes) <= {"cat", "dog"}
    assert list(loaded.predict_proba(str(files / "plain.h5"))) == ["label"]
    values = loaded.evaluate(ARRAYS)
    count = WEIGHTS.sum()
    error = (found["energy"] - np.nan_to_num(ENERGY))[WEIGHTS > 0]
    np.testing.assert_allclose(values["rmse_energy"], np.sqrt(np.square(error).sum() / count), rtol=1e-5)
    assert values == loaded.evaluate(str(files / "plain.h5"))


def test_a_single_named_target_takes_a_single_output_and_a_plain_loss():
    data = {"inputs": META, "targets": {"energy": META[:, :1]}}
    result = dbp.fit(**{**REST, "model": [nn.Dense(1)], "loss": "huber"}, data=data)
    assert list(result.predict(META)) == ["energy"]
    assert result.history["cost"] == result.history["cost_energy"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": IMAGES}, "lacks the inputs meta, which the training data has; it has image"),
        ({"imag": IMAGES, "meta": META}, "lacks the inputs image"),
        (IMAGES, "lacks the inputs image, meta, which the training data has; its inputs have no name"),
    ],
)
def test_other_inputs_are_refused_by_name(files, given, message):
    result = fitted(str(files / "plain.h5"))
    with pytest.raises(UserError, match=message):
        result.predict(given)
    with pytest.raises(UserError, match="lacks the targets energy"):
        result.evaluate({"inputs": ARRAYS["inputs"], "targets": {"label": LABELS}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"label": "y", "energy": "none"}}, "has no data set 'none'"),
        ({"targets": {"label": "y"}, "weights": None}, "unknown target of the loss 'energy'; valid: label"),
        ({"weights": {"energi": "w"}}, "weights.energi are of no targets; did you mean 'energy'"),
        ({"inputs": {"imag": "img", "meta": "x"}}, "unknown input of the model 'image'; did you mean 'imag'"),
        ({"weights": None}, "target 'energy': targets must be finite"),
        ({"scale": {"imag": 2.0}}, "unknown inputs of data.scale 'imag'"),
        ({"standardize": ["inputs.met"]}, "unknown column of data.standardize 'inputs.met'"),
        ({"standardize": ["targets.label"]}, "has targets.label, which the loss cross_entropy does not take"),
        ({"inputs": {"a b": "x"}}, "data.inputs must have names that are identifiers"),
    ],
)
def test_wrong_names_are_refused_before_the_first_step(files, changes, message):
    with pytest.raises(UserError, match=message):
        dbp.fit(model=model, data=dbp.Data(str(files / "plain.h5"), **{**NAMES, **changes}), **REST)


def test_a_data_set_of_ones_own_names_its_columns():
    class Own(Dataset):
        name = "own"

        def __len__(self):
            return ROWS

        def read(self, rows):
            columns = {"inputs.image": IMAGES[rows] / 255, "inputs.meta": META[rows], "targets.label": LABELS[rows]}
            energy = np.nan_to_num(ENERGY[rows])
            return Examples({**columns, "targets.energy": energy, "weights.energy": WEIGHTS[rows]})

    result = dbp.fit(model=model, data=Own(), **REST)
    assert {"cost_label", "cost_energy"} <= result.history.keys()
    assert list(result.predict(ARRAYS["inputs"])) == ["label", "energy"]
    assert result.evaluate(Own())["cost_label"] > 0

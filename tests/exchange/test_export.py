"""Weights to other formats and back, by name."""

import sys

import numpy as np
import pytest

import dbp as package
from dbp.config.data import Data
from dbp.data import ColumnMeaning, Scaling
from dbp.errors import UserError
from dbp.exchange import export, import_weights
from dbp.exchange.inputs import inputs_of
from tests.jobs import dbp, newest_checkpoint, run

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: install [safetensors]")


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_weights_leave_and_come_back(trained, tmp_path, ending):
    config, folder = trained
    out, back = tmp_path / f"weights{ending}", tmp_path / "back.h5"
    export(folder, out)
    checkpoint = newest_checkpoint(folder)
    found = safetensors.load_file(out) if ending == ".safetensors" else dict(np.load(out, allow_pickle=False))
    assert found.keys() == checkpoint.inference_weights().keys() > {"batch_norm_1/running_mean"}
    for name, array in checkpoint.inference_weights().items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert not np.array_equal(checkpoint.model["dense_1/weight"], found["dense_1/weight"])  # the averaged ones

    import_weights(out, config, back)
    for name, array in checkpoint.inference_weights().items():
        np.testing.assert_array_equal(newest_checkpoint(back).model[name], array, strict=True)


@pytest.mark.slow
def test_what_is_imported_serves_every_command(trained, tmp_path):
    config, folder = trained
    weights, back = tmp_path / "weights.npz", tmp_path / "back.h5"
    assert dbp("export", folder, weights).out == f"{weights}: 8 arrays of 484 numbers\n"
    assert dbp("import", weights, config, back).out == f"{back}: 484 numbers from {weights} in float32\n"
    same = [dbp("eval", path, "dbp:digits-test").out for path in (folder, back)]
    assert same[0] == same[1] != ""
    assert dbp("predict", back, "dbp:digits-test", tmp_path / "outputs.h5").code == 0
    assert f"imported {weights}" in " ".join(dbp("inspect", back, "--all").out.split())  # perhaps on the next line
    go_on = dbp("train", config, "--out", tmp_path / "more", "--set", f"weights={back}")
    assert go_on.code == 0, go_on.text


def test_the_same_weights_give_the_same_bytes(trained, tmp_path):
    for ending in (".safetensors", ".npz", ".onnx"):
        export(trained[1], tmp_path / f"a{ending}")
        export(trained[1], tmp_path / f"b{ending}")
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_types_become_those_of_the_run(trained, tmp_path):
    config, folder = trained
    export(folder, tmp_path / "weights.npz")
    import_weights(tmp_path / "weights.npz", config, tmp_path / "out.h5", ['dtype="float64"'])
    assert {array.dtype.name for array in newest_checkpoint(tmp_path / "out.h5").model.values()} == {"float64"}


def test_onnx_from_the_command_line(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install the extra [test]")
    _, folder = trained
    out, outputs = tmp_path / "model.onnx", tmp_path / "outputs.h5"
    outcome = dbp("export", folder, out)
    assert outcome.code == 0, outcome.text
    assert "inputs of shape (examples, 8, 8) that are multiplied by 0.0625" in outcome.out
    dbp("predict", folder, "dbp:digits-test", outputs)
    from dbp.data import HDF5Dataset

    expected = HDF5Dataset(outputs, "outputs", None).read(slice(None)).inputs
    images = HDF5Dataset("dbp:digits-test").read(slice(None)).inputs.astype(np.float32)  # as they are in the file
    running = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (got,) = running.run(["outputs"], {"inputs": images})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert running.get_modelmeta().custom_metadata_map.keys() == {"dbp_version", "config_digest", "meaning"}


@pytest.mark.slow
def test_nothing_is_overwritten_unasked(trained, tmp_path):
    config, folder = trained
    out = tmp_path / "weights.npz"
    out.write_text("mine")
    for words in (("export", folder, out), ("import", out, config, out)):
        outcome = dbp(*words)
        assert outcome.code == 2
        assert "exists; choose another name or pass --overwrite" in outcome.err
    assert out.read_text() == "mine"
    assert dbp("export", folder, out, "--overwrite").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["weights.bin"], "must end in .safetensors, .npz or .onnx"),
        (["weights.npz", "--input", "8,8"], "the shape of an example and a scale are for ONNX"),
    ],
)
def test_mistakes_in_an_export(trained, tmp_path, words, told):
    outcome = dbp("export", trained[1], *words, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_the_remedy(trained, tmp_path):
    for library, ending in (("onnx", "onnx"), ("safetensors", "safetensors")):
        code = f"import sys; sys.modules[{library!r}] = None; from dbp.cli import main; sys.exit(main(sys.argv[1:]))"
        outcome = run(sys.executable, "-c", code, "export", trained[1], tmp_path / f"out.{ending}")
        assert outcome.code == 2
        assert f"needs the library {library}; pip install {library}" in outcome.err


def test_a_model_of_the_users_own_goes_out_as_weights_alone(tmp_path):
    def mine(scope, x):
        return x.reshape(len(x), -1) @ scope.parameter("weight", (64, 10))

    import dbp

    dbp.fit(
        model=mine,
        loss="cross_entropy",
        data="dbp:digits-train",
        optimizer=dbp.optim.SGD(0.1),
        epochs=0,
        batch_size=50,
        out=str(tmp_path / "run"),
    )
    with pytest.raises(UserError, match=r"Python code '.*mine', which cannot be put into ONNX"):
        export(tmp_path / "run", tmp_path / "model.onnx")
    export(tmp_path / "run", tmp_path / "weights.npz")
    assert np.load(tmp_path / "weights.npz")["weight"].shape == (64, 10)


OWN = """
from dataclasses import dataclass
from typing import ClassVar

from dbp.exchange.onnx import add
from dbp.nn import Dense


@dataclass(frozen=True)
class Scaled:
    kind: ClassVar[str] = "scaled"
    units: int

    def __call__(self, scope, x):
        return Dense(self.units)(scope.inside("inner"), x) * scope.parameter("factor", (self.units,), "ones")

    def onnx(self, scope, x):
        inner = add(scope.inside("inner"), Dense(self.units), x)
        return scope.apply("Mul", inner, scope.constant("factor", scope.weight("factor")))
"""


def test_a_layer_of_the_users_own_goes_out_with_its_file(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install the extra [test]")
    config, _ = trained
    (tmp_path / "my_scaled.py").write_text(OWN)
    text = config.read_text().replace('"dense"', '"my_scaled:Scaled"').replace(', activation = "tanh"', "")
    (tmp_path / "own.toml").write_text(text)
    outcome = dbp("train", tmp_path / "own.toml", "--out", tmp_path / "run", "--set", "epochs=0")
    assert outcome.code == 0, outcome.text
    words = ("export", tmp_path / "run", tmp_path / "own.onnx")
    assert "pass its file, --code FILE.py, if the layer has a method onnx(scope, x)" in dbp(*words).err
    outcome = dbp(*words, "--code", tmp_path / "my_scaled.py")
    assert outcome.code == 0, outcome.text
    running = onnxruntime.InferenceSession(tmp_path / "own.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    expected = package.load(tmp_path / "run", code=tmp_path / "my_scaled.py").predict(x)
    np.testing.assert_allclose(running.run(None, {"inputs": np.float32(x)})[0], expected, rtol=1e-5, atol=1e-5)


def test_without_data_the_inputs_must_be_told():
    data = Data(train="nowhere.h5")
    with pytest.raises(UserError, match=r"nowhere\.h5 does not exist.*such as --input 28,28,1 --scale 1$"):
        inputs_of(data, {}, None, None)
    with pytest.raises(UserError, match=r"such as --scale 1$"):
        inputs_of(data, {}, (8, 8), None)
    assert inputs_of(data, {}, (8, 8), 0.5) == ((8, 8), Scaling(factor=0.5))
    assert inputs_of(Data(train="nowhere.h5", scale=0.25), {}, (8, 8), None) == ((8, 8), Scaling(factor=0.25))
    assert inputs_of(Data(train="dbp:digits-train"), {}, None, None) == ((8, 8), Scaling(factor=1 / 16))
    stored = {"inputs": ColumnMeaning("integers", 1 / 255)}
    assert inputs_of(data, stored, (8, 8), None) == ((8, 8), Scaling(factor=1 / 255))
    assert inputs_of(data, {"inputs": ColumnMeaning("floats")}, (8, 8), None) == ((8, 8), Scaling())


def test_all_that_does_not_fit_is_told_in_one_line(trained, tmp_path):
    config, folder = trained
    arrays = newest_checkpoint(folder).inference_weights()
    arrays["dense_9/weight"] = arrays.pop("dense_2/weight")
    arrays["dense_1/weight"] = arrays["dense_1/weight"].T
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(UserError) as caught:
        import_weights(tmp_path / "wrong.npz", config, tmp_path / "out.h5")
    message = str(caught.value)
    assert "missing: dense_2/weight; unexpected: dense_9/weight; of another shape: dense_1/weight (6, 64)" in message
    assert "for dense_1/weight (64, 6)" in message
    assert "--rename OLD=NEW" in message
    assert "\n" not in message
    assert not (tmp_path / "out.h5").exists()


def test_a_part_is_imported_and_the_rest_drawn_which_is_said(trained, tmp_path):
    config, folder = trained
    weights = dict(newest_checkpoint(folder).inference_weights())
    other = {n: a for n, a in weights.items() if not n.startswith("dense_1/")} | {"extra": np.ones(3, np.float32)}
    np.savez(tmp_path / "w.npz", **(other | {"dense_2/bias": np.ones(7, np.float32)}))
    told = dbp("import", tmp_path / "w.npz", config, tmp_path / "out.h5", "--partial").out
    assert told == (
        f"{tmp_path}/out.h5: 84 numbers from {tmp_path}/w.npz in float32\n"
        "drawn from the seed: dense_1/weight, dense_1/bias, dense_2/bias (7,) for dense_2/bias (10,)\n"
        f"left out of {tmp_path}/w.npz: extra\n"
    )
    found = newest_checkpoint(tmp_path / "out.h5").model
    drawn = {"dense_1/weight", "dense_1/bias", "dense_2/bias"}
    assert {name for name, array in found.items() if not np.array_equal(array, weights[name])} == drawn
    assert np.abs(found["dense_1/weight"]).max() > 0
    np.savez(tmp_path / "none.npz", extra=np.ones(3))
    with pytest.raises(UserError, match="do not fit the config's model: missing: dense_1/weight"):
        import_weights(tmp_path / "none.npz", config, tmp_path / "none.h5", partial=True)

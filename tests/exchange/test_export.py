"""Weights to other formats and back, by name, and files that lie about what they hold."""

import io
import json
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from dbp.config.settings import Data
from dbp.errors import UserError
from dbp.exchange import export, import_weights
from dbp.exchange.files import open_weights
from dbp.exchange.inputs import inputs_of
from dbp.exchange.rename import renamed
from dbp.settings import Data
from tests.jobs import dbp, newest_checkpoint, run

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: install [safetensors]")

CONFIG = """
loss = "cross_entropy"
epochs = 1
batch_size = 50

[data]
train = "dbp:digits-train"

[model]
layers = [
    { kind = "flatten" },
    { kind = "dense", units = 6, activation = "tanh" },
    { kind = "batch_norm" },
    { kind = "dense", units = 10 },
]

[optimizer]
kind = "adam"
average = 0.9
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A config and the folder of its run, whose averaged weights differ from the last ones."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "config.toml"
    config.write_text(f'out = "{folder}/run"\n{CONFIG}')
    outcome = dbp("train", config)
    assert outcome.code == 0, outcome.text
    return config, folder / "run"


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_weights_leave_and_come_back(trained, tmp_path, ending):
    config, folder = trained
    out, back = tmp_path / f"weights{ending}", tmp_path / "back.h5"
    export(folder, out)
    checkpoint = newest_checkpoint(folder)
    found = safetensors.load_file(out) if ending == ".safetensors" else dict(np.load(out, allow_pickle=False))
    assert found.keys() == checkpoint.trained.keys() > {"batch_norm_1/running_mean"}
    for name, array in checkpoint.trained.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert not np.array_equal(checkpoint.model["dense_1/weight"], found["dense_1/weight"])  # the averaged ones

    import_weights(out, config, back)
    for name, array in checkpoint.trained.items():
        np.testing.assert_array_equal(newest_checkpoint(back).model[name], array, strict=True)


def test_what_is_imported_serves_every_command(trained, tmp_path):
    config, folder = trained
    weights, back = tmp_path / "weights.npz", tmp_path / "back.h5"
    assert dbp("export", folder, weights).out == f"{weights}: 8 arrays of 484 numbers\n"
    assert dbp("import", weights, config, back).out == f"{back}: 484 numbers from {weights} in float32\n"
    same = [dbp("eval", path, "dbp:digits-test").out for path in (folder, back)]
    assert same[0] == same[1] != ""
    assert dbp("predict", back, "dbp:digits-test", tmp_path / "outputs.h5").code == 0
    assert ["imported", str(weights)] in [line.split() for line in dbp("inspect", back).out.splitlines()]
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
    assert running.get_modelmeta().custom_metadata_map.keys() == {"dbp_version", "config_digest"}


# --- what is refused --------------------------------------------------------------------------------


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
        (["weights.pt"], "must end in .safetensors, .npz or .onnx"),
        (["weights.npz", "--input", "8,8"], "--input and --scale are for ONNX"),
        (["missing/weights.npz"], "cannot be written: No such file or directory"),
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
        assert f"needs the library {library}; pip install 'dbp-mpi[{library}]'" in outcome.err


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


def test_without_data_the_inputs_must_be_told():
    data = Data(train="nowhere.h5")
    with pytest.raises(UserError, match=r"nowhere\.h5 does not exist.*such as --input 28,28,1 --scale 1$"):
        inputs_of(data, None, None)
    with pytest.raises(UserError, match=r"such as --scale 1$"):
        inputs_of(data, (8, 8), None)
    assert inputs_of(data, (8, 8), 0.5) == ((8, 8), 0.5)
    assert inputs_of(Data(train="nowhere.h5", scale=0.25), (8, 8), None) == ((8, 8), 0.25)
    assert inputs_of(Data(train="dbp:digits-train"), None, None) == ((8, 8), 1 / 16)


def test_all_that_does_not_fit_is_told_in_one_line(trained, tmp_path):
    config, folder = trained
    arrays = newest_checkpoint(folder).trained
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


# --- names ------------------------------------------------------------------------------------------


def test_renaming():
    names = ["net.0.weight", "net.0.bias", "net.10.weight", "encoder/block3/fc/weight", "head"]
    rules = ["net.0=dense_1", "net.*.weight=dense_*/weight", "encoder/block*/fc=residual_*/dense_1", "head=out/weight"]
    assert renamed(names, rules) == {
        "dense_1.weight": "net.0.weight",
        "dense_1.bias": "net.0.bias",
        "dense_10/weight": "net.10.weight",
        "residual_3/dense_1/weight": "encoder/block3/fc/weight",
        "out/weight": "head",
    }


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (["fc"], "takes OLD=NEW, but got 'fc'"),
        (["fc=dense_*"], r"every \* of the new name needs one in the old name"),
        (["ne=x"], r"--rename ne=x fits none of the weights; they are net\.0, net\.1"),
        (["net.*=same"], r"'net\.0' and 'net\.1' would both become 'same'"),
    ],
)
def test_renames_that_cannot_be_meant(rules, told):
    with pytest.raises(UserError, match=told):
        renamed(["net.0", "net.1"], rules)


# --- files that lie ---------------------------------------------------------------------------------


def npz(path, header, content=b"", version=(1, 0), method=zipfile.ZIP_DEFLATED):
    """An archive with one array, whose header and contents are given."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("dense_1/weight.npy", b"\x93NUMPY" + bytes(version) + size + header + content)


def header(shape, dtype="<f4"):
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


def peak_of_refusal(path, config, match):
    """The memory that a refusal takes, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=match):
            import_weights(path, config, path.with_name("out.h5"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def liars(path):
    """Archives that claim, or unpack to, more than there is, each with what is told of it."""
    zeros = b"\0" * 2**26
    npz(path / "shape.npz", header((10**6, 10**6)))
    yield "shape.npz", r"of another shape: dense_1/weight \(1000000, 1000000\)"
    npz(path / "negative.npz", header((-1, 64)), zeros)
    yield "negative.npz", "would be of shape"
    npz(path / "bomb.npz", header((64, 6)), zeros)
    yield "bomb.npz", "is longer than its shape"
    npz(path / "short.npz", header((64, 6)), b"\0" * 8)
    yield "short.npz", "are damaged"
    npz(path / "header.npz", b" " * 2**26, version=(2, 0))
    yield "header.npz", "are damaged"
    npz(path / "object.npz", header((2,), "|O"), b"cos\nsystem\n")
    yield "object.npz", "must be numbers, but is of type object"
    npz(path / "packed.npz", header((64, 6)), bytes(64 * 6 * 4), method=zipfile.ZIP_LZMA)
    yield "packed.npz", "is packed as NumPy does not"
    (path / "none.npz").write_bytes(b"PK\3\4 no archive")
    yield "none.npz", "are damaged, or of another format than .npz"


def test_archives_that_lie_are_refused_in_little_memory(trained, tmp_path):
    for name, told in liars(tmp_path):
        peak = peak_of_refusal(tmp_path / name, trained[0], told)
        assert peak < 2**24, f"{name}: {peak:,} bytes"


def safe(path, entries, content=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)


def test_safetensors_that_lie_are_refused_in_little_memory(trained, tmp_path):
    path, name = tmp_path / "weights.safetensors", "dense_1/weight"
    huge = {name: {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    cases = [
        (huge, b"", None, "are damaged"),
        ({name: {"dtype": "F32", "shape": [64, 6], "data_offsets": [0, 8]}}, bytes(8), None, "are damaged"),
        ({name: {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 0]}}, b"", None, "are damaged"),
        (b"{", b"", 2**62, r"its header would be of 4,611,686,018,427,387,904 bytes"),
        (b" " * 2**25, b"", None, r"its header would be of 33,554,432 bytes"),
        (b"[" * 10**5, b"", None, "are damaged"),
        ({name: {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), None, "save it as float32"),
    ]
    for entries, content, length, told in cases:
        safe(path, entries, content, length)
        assert peak_of_refusal(path, trained[0], told) < 2**24


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"must be a file that ends in \.safetensors or \.npz"):
        open_weights(tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.npz do not exist"):
        open_weights(tmp_path / "weights.npz")


def test_fortran_order_is_read_as_it_is_meant(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = io.BytesIO()
    np.savez_compressed(content, array=array)
    (tmp_path / "f.npz").write_bytes(content.getvalue())
    np.testing.assert_array_equal(open_weights(tmp_path / "f.npz").read("array"), array)

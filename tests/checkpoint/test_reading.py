"""Checkpoint files: read as they were written, or refused when damaged or tampered with."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from dbp.checkpoint import StoredCheckpoint, digest_arrays, opened, read, write
from dbp.checkpoint.format import SEAL_BYTES
from dbp.errors import UserError
from tests.checkpoint.small import FULL, MODEL


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "c.h5", FULL)
    return tmp_path / "c.h5"


def test_what_is_written_is_read(path):
    found = read(path)
    for name, array in FULL.arrays():
        np.testing.assert_array_equal(dict(found.arrays())[name], array)
        assert dict(found.arrays())[name].dtype == array.dtype
    assert found.progress == FULL.progress
    assert isinstance(found.progress["epoch"], int)
    assert (found.provenance, found.config) == (FULL.provenance, FULL.config)


def test_the_layout_is_as_documented(path):
    with h5py.File(path) as file:
        assert file["model/dense_1/weight"][1, 2] == 5
        assert file["optimizer/mean_square/dense_1/bias"].shape == (3,)
        assert file["progress"].attrs["epoch"] == 2
        assert file.attrs["config"].decode().startswith("epochs = 3")


def test_the_digest_of_weights_is_of_names_types_shapes_and_values():
    base = digest_arrays(MODEL)
    assert base == digest_arrays(dict(reversed(MODEL.items())))
    others = [
        {"dense_1/weight": MODEL["dense_1/weight"].reshape(3, 2), "dense_1/bias": MODEL["dense_1/bias"]},
        {"dense_1/weight": MODEL["dense_1/weight"], "dense_2/bias": MODEL["dense_1/bias"]},
        {"dense_1/weight": MODEL["dense_1/weight"], "dense_1/bias": np.zeros(3)},
        {"dense_1/weight": MODEL["dense_1/weight"], "dense_1/bias": -MODEL["dense_1/bias"]},
    ]
    assert len({base, *map(digest_arrays, others)}) == 5


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path):
    """A byte of padding may differ; no stored value may come back different."""
    write(tmp_path / "good.h5", StoredCheckpoint(model=MODEL, progress={"epoch": 2}, config="a = 1"))
    image, bad = (tmp_path / "good.h5").read_bytes(), tmp_path / "bad.h5"
    refused = 0
    for offset in (*range(0, 120, 7), *range(SEAL_BYTES, len(image), 5)):
        bad.write_bytes(image[:offset] + bytes([image[offset] ^ 0x41]) + image[offset + 1 :])
        try:
            found = read(bad)
        except UserError:
            refused += 1
        else:
            assert digest_arrays(found.model) == digest_arrays(MODEL)
            assert (found.progress["epoch"], found.config) == (2, "a = 1")
    assert refused > 50


def test_every_truncation_is_noticed(tmp_path):
    write(tmp_path / "good.h5", StoredCheckpoint(model=MODEL))
    image = (tmp_path / "good.h5").read_bytes()
    for length in range(0, len(image), 37):
        (tmp_path / "bad.h5").write_bytes(image[:length])
        with pytest.raises(UserError, match="damaged"):
            read(tmp_path / "bad.h5")


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def replace_weight(file, **storage):
    del file["model/dense_1/weight"]
    file.create_dataset("model/dense_1/weight", **storage)


def soft_link(file):
    file["w"] = file["model/dense_1/weight"]
    del file["model/dense_1/weight"]
    file["model/dense_1/weight"] = h5py.SoftLink("/w")


def external_link(file):
    del file["model/dense_1/weight"]
    file["model/dense_1/weight"] = h5py.ExternalLink("/etc/passwd", "/x")


def huge(file):
    replace_weight(file, shape=(2**20, 2**20), dtype="f8")
    contents = json.loads(file.attrs["contents"])
    contents["model/dense_1/weight"] = ["<f8", [2**20, 2**20]]
    file.attrs["contents"] = np.bytes_(json.dumps(contents))


def virtual(file):
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(2, 3))
    del file["model/dense_1/weight"]
    file.create_virtual_dataset("model/dense_1/weight", layout)


@pytest.mark.parametrize(
    "change",
    [
        soft_link,
        external_link,
        huge,
        virtual,
        lambda f: replace_weight(f, data=np.zeros((2, 3))),
        lambda f: replace_weight(f, data=MODEL["dense_1/weight"], chunks=(1, 3), compression="gzip"),
        lambda f: replace_weight(f, shape=(2, 3), dtype="f8", external=[("/etc/hostname", 0, 48)]),
        lambda f: replace_weight(f, data=np.zeros((2, 3), "f4")),
        lambda f: f.attrs.modify("config", np.bytes_("epochs = 4")),
        lambda f: f["progress"].attrs.modify("epoch", 3),
        lambda f: f.attrs.__delitem__("contents"),
        lambda f: f.__delitem__("progress"),
        lambda f: f.attrs.modify("format", np.bytes_("other")),
    ],
)
def test_files_that_were_tampered_with_are_refused(path, change):
    edit(path, change)
    with pytest.raises(UserError, match=r"c.h5 is (damaged|not a checkpoint|not made by dbp)"):
        read(path)


def test_the_weights_to_be_used_are_read_alone(tmp_path):
    average = {name: array + 1 for name, array in MODEL.items()}
    for optimizer, expected in (({"mean": MODEL}, MODEL), ({"mean": MODEL, "average": average}, average)):
        kept = replace(FULL, model=MODEL | {"running_mean": np.ones(2)}, optimizer=optimizer)
        path = tmp_path / f"{len(optimizer)}.h5"
        write(path, kept)
        with opened(path) as found:
            assert digest_arrays(found.inference_weights()) == digest_arrays(expected | {"running_mean": np.ones(2)})
            assert digest_arrays(kept.inference_weights()) == digest_arrays(found.inference_weights())


@pytest.mark.parametrize(("version", "remedy"), [(99, "update dbp"), (3, "export its weights with the dbp that wrote")])
def test_another_format_is_refused_with_a_remedy(path, version, remedy):
    edit(path, lambda f: f.attrs.modify("version", version))
    with pytest.raises(UserError, match=rf"c.h5 has format {version}, but this dbp reads format 4; {remedy}"):
        read(path)


def test_a_missing_file_and_other_files(tmp_path):
    with pytest.raises(UserError, match=r"x.h5 does not exist"):
        read(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(UserError, match=r"x.h5 is damaged or not a checkpoint"):
        read(tmp_path / "x.h5")

"""What ranks import and read at the start of a training: thousands of them load one disk at once."""

import json

import h5py
import pytest

from dbp.data import HDF5Dataset, data_path, mapped
from tests.jobs import ROOT, digest, mpirun

pytestmark = pytest.mark.slow

RANK = ROOT / "benchmarks" / "steps" / "startup_rank.py"
# What only the first rank needs, a command other than train, or models and optimizers other than those of small.toml.
NOT_NEEDED = {
    "h5py",
    "logging",
    "msgspec",
    "subprocess",
    "tomllib",
    "tqdm",
    "dbp.autodiff.blocks.attention",
    "dbp.autodiff.blocks.recurrent",
    "dbp.autodiff.blocks.transposed_convolution",
    "dbp.autodiff.fast_convolution.volumes",
    "dbp.batch",
    "dbp.checkpoint.folder",
    "dbp.checkpoint.reading",
    "dbp.checkpoint.writing",
    "dbp.convert",
    "dbp.cost.all_outputs",
    "dbp.cost.joint",
    "dbp.data.hdf5",
    "dbp.data.output",
    "dbp.doctor",
    "dbp.exchange",
    "dbp.insight",
    "dbp.metrics.classes",
    "dbp.metrics.joint",
    "dbp.metrics.registry",
    "dbp.nn.layers.augmentation",
    "dbp.nn.layers.merging",
    "dbp.nn.layers.recurrent",
    "dbp.nn.layers.sequences",
    "dbp.nn.layers.spectral",
    "dbp.nn.layers.transposed_convolution",
    "dbp.nn.layers.upsampling",
    "dbp.optim.kfac",
    "dbp.optim.kronecker_inverse",
    "dbp.optim.lbfgs",
    "dbp.optim.muon",
    "dbp.optim.newton",
    "dbp.optim.scipy_methods",
    "dbp.report",
    "dbp.trained",
    "dbp.training.epoch_table",
}
COMMAND = ["dbp.commands.parser", "dbp.commands.train"]


def start(tmp_path, ranks, *words):
    """Return what each rank has imported and opened before its first step."""
    out = tmp_path / "out.json"
    outcome = mpirun(ranks, RANK, "--out", out, tmp_path / "small.toml", *words)
    assert outcome.code == 0, outcome.text
    return json.loads(out.read_text())["results"]


def read_of_the_run(row, tmp_path):
    return [file for file in row["files"] if file.startswith(str(tmp_path))]


@pytest.mark.usefixtures("small")
def test_only_the_first_rank_reads_config_and_checkpoint_and_loads_what_that_takes(tmp_path):
    for epochs in (2, 3):  # a new start, and one that resumes from a checkpoint
        first, *others = start(tmp_path, 3, "--set", f"epochs={epochs}", "--set", "schedule.epochs=2")
        assert len(others) == 2
        for row in others:
            assert NOT_NEEDED & set(row["modules"]) == set()
            assert read_of_the_run(row, tmp_path) == [str(tmp_path / "small.toml")]  # for its kernels
            assert {"dbp.training.loop", "numpy"} <= set(row["modules"])
            assert [name for name in row["modules"] if name.startswith("dbp.commands.")] == COMMAND
        assert {"h5py", "tomllib", "msgspec"} <= set(first["modules"])
        assert str(tmp_path / "small.toml") in first["files"]
    assert any("checkpoints/step-" in file for file in first["files"])


def chunked(tmp_path, purpose, compression="gzip"):
    """Write a copy of the digits in compressed chunks."""
    path = tmp_path / f"{purpose}.h5"
    with h5py.File(data_path(f"dbp:digits-{purpose}")) as source, h5py.File(path, "w") as target:
        for name in ("inputs", "targets"):
            target.create_dataset(name, data=source[name][:], chunks=True, compression=compression)
            target[name].attrs.update(source[name].attrs)
    return path


def test_chunks_are_read_to_the_same_bits_without_hdf5_if_it_need_not_unpack_them(small, tmp_path):
    for compression in ("gzip", "lzf"):
        files = {name: json.dumps(str(chunked(tmp_path, name, compression))) for name in ("train", "test")}
        words = [word for name, path in files.items() for word in ("--set", f"data.{name}={path}")]
        words += ["--set", 'data.order="rows"']  # that of data in one piece
        first, other = start(tmp_path, 2, *words, "--out", tmp_path / compression)
        assert "h5py" in first["modules"]
        assert ("h5py" in other["modules"]) == (compression == "lzf")
    start(tmp_path, 2)
    assert digest(tmp_path / "gzip") == digest(tmp_path / "lzf") == digest(tmp_path / "run")
    assert small.exists()


def test_columns_are_mapped_where_another_process_found_them(tmp_path):
    found = HDF5Dataset("dbp:digits-train")
    other = mapped("dbp:digits-train", found.layout)
    rows = slice(5, 9)
    assert (len(other), other.scale, other.input_shape) == (len(found), found.scale, found.input_shape)
    assert (other.read(rows).inputs == found.read(rows).inputs).all()
    assert (other.read(rows).targets == found.read(rows).targets).all()
    assert found.layout.fits(data_path("dbp:digits-train"))
    assert not found.layout.fits(data_path("dbp:digits-test"))  # of another size
    assert not found.layout.fits(tmp_path / "none.h5")
    assert HDF5Dataset(chunked(tmp_path, "test", "lzf")).layout is None


def test_another_version_on_one_rank_is_named_before_it_gets_settings(small, tmp_path):
    program = (
        "import sys, dbp\n"
        "from dbp.cli import main\n"
        "from dbp.parallel import world\n"
        "dbp.version.VERSION = ('0.1.0', '0.0.9')[world().rank]\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    outcome = mpirun(2, "-c", program, "train", small)
    assert outcome.code == 2
    assert outcome.err.count("start the same installation of dbp and Python on all nodes") == 1
    assert "0.0.9 on rank 1" in outcome.err
    assert not (tmp_path / "run").exists()

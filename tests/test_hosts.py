"""Jobs over several hosts, with real TCP between them, where the machine permits namespaces."""

import contextlib
import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.hosts import Hosts, environment, why_not
from tests.jobs import LAUNCHER_SETTINGS, ROOT, SMALL, dbp, digest, launcher, run
from tests.launcher import ONCE_MORE
from tests.processes import ProcessTree, wait_until

# Enough weights to be dealt to the ranks, and shards for eight of them.
LARGER = ("--set", "model.layers.1.units=300", "--set", "shards=8", "--set", "epochs=1")
METHODS = {
    "adam": ("--set", "optimizer.clip_norm=0.5"),
    "sgd": ("--set", 'optimizer={kind="sgd", learning_rate=0.05, momentum=0.9}'),
}
MEMORY = {"shared": "2g", "private": "12m"}  # of /dev/shm; with little of it every rank keeps its own copies
BARE = {"OMPI_MCA_btl": "self,sm,tcp"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


def python_with(mpi, request):
    """Return the Python of an environment with that MPI; skip the test if there is none."""
    return sys.executable if mpi == "Open MPI" else request.getfixturevalue("mpich_python")


@pytest.fixture(params=["Open MPI", "MPICH"])
def python(request):
    return python_with(request.param, request)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Return the digests of the small config, made larger, on one process, by method."""
    folder = tmp_path_factory.mktemp("references")
    (folder / "small.toml").write_text(SMALL)
    for method, words in METHODS.items():
        assert dbp("train", folder / "small.toml", *LARGER, *words, "--out", folder / method).code == 0
    return {method: digest(folder / method) for method in METHODS}


@pytest.mark.parametrize(
    ("mpi", "ranks", "method", "memory", "divided"),
    [  # each value of method, memory and divided with each MPI; benchmarks/equal_bits.py has more combinations
        ("Open MPI", (2, 1), "sgd", "private", "true"),
        ("Open MPI", (1, 2, 1), "adam", "shared", "false"),
        ("MPICH", (3, 1), "sgd", "shared", "true"),
        ("MPICH", (2, 1, 2), "adam", "private", "false"),
    ],
)
def test_any_hosts_give_the_same_bits(small, tmp_path, references, request, mpi, ranks, method, memory, divided):
    python, places = python_with(mpi, request), ",".join(map(str, ranks))
    hosts = (python, ROOT / "tests" / "hosts.py", places, "--memory", MEMORY[memory])
    train = ("train", small, *LARGER, *METHODS[method], "--set", f"divide_state={divided}")
    outcome = run(*hosts, "--", *train, env=BARE)
    assert outcome.code == 0, outcome.text
    assert f"{sum(ranks)} ranks on {len(ranks)} nodes ({mpi} " in outcome.out
    assert ("every rank keeps weights and optimizer state of its own" in outcome.out) == (memory == "private")
    assert digest(tmp_path / "run") == references[method]


@pytest.mark.parametrize("way", ["raise ZeroDivisionError('on h1')", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_rank_that_fails_on_another_host_ends_all(tmp_path, python, way):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, dbp, os, signal, socket\n"
        "def model(scope, x):\n"
        "    if scope.training and socket.gethostname() == 'h1':\n"
        f"        {way}\n"
        "    return dbp.nn.Dense(2)(scope.inside('a'), dbp.nn.Dense(500)(scope.inside('b'), x))\n"
        "x = np.ones((40, 30))\n"
        "dbp.fit(model=model, loss='mean_squared_error', data=(x, x[:, :2]),\n"
        "        optimizer=dbp.optim.SGD(0.1), epochs=3, batch_size=8, quiet=True)\n"
    )
    with Hosts(2) as hosts:
        command = hosts.mpirun([2, 1], python, str(script), mpirun=launcher(python))
        outcome = run(*command, env=environment(3) | BARE)
        assert wait_until(lambda: not running(script))
    assert outcome.code != 0
    raised = way.startswith("raise")
    assert outcome.text.count("ZeroDivisionError: on h1") == raised
    assert ("of 3 on h1 failed" in outcome.text) == raised


def test_a_job_over_hosts_that_hangs_is_ended_on_all_of_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import dbp.parallel, time\nprint(dbp.parallel.world().rank, flush=True)\ntime.sleep(600)\n")
    command = (*ONCE_MORE, sys.executable, ROOT / "tests" / "hosts.py", "1,1", "--", sys.executable, script)
    with ProcessTree(*command, env=os.environ | LAUNCHER_SETTINGS | BARE) as job:
        assert wait_until(lambda: sorted(job.out.split()) == ["0", "1"]), job.err
        ranks = running(script)
        assert {int(pid) for pid in ranks} <= job.processes().keys()
    assert not running(script)


def running(script):
    """Return the processes with this script on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(script).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def test_ranks_of_different_hosts_talk_over_their_network(small, tmp_path, references, python):
    with Hosts(2) as hosts:
        assert hosts.run("h1", "hostname").strip() == "h1"
        before = hosts.sent("h0")
        train = (python, "-m", "dbp", "train", small, *LARGER, *METHODS["adam"])
        command = hosts.mpirun([1, 1], *map(str, train), mpirun=launcher(python))
        outcome = run(*command, env=environment(2) | BARE)
        assert outcome.code == 0, outcome.text
        steps, bytes_of_weights = 26, 4 * (65 * 300 + 301 * 10)
        assert 0.9 < (hosts.sent("h0") - before) / (steps * bytes_of_weights) < 1.6
    assert digest(tmp_path / "run") == references["adam"]


def test_too_little_shared_memory_is_told_and_costs_no_bit(small, tmp_path, references):
    """A mount namespace has as little shared memory as some containers."""
    command = [launcher(), "-n", "2", sys.executable, "-m", "dbp", "train", small, *LARGER, *METHODS["adam"]]
    little = "mount -t tmpfs -o size=12m tmpfs /dev/shm && exec " + shlex.join(map(str, command))
    outcome = run("unshare", "--mount", "sh", "-c", little)
    assert outcome.code == 0, outcome.text
    assert outcome.out.count("warning: every rank keeps weights and optimizer state of its own, as /dev/shm of ") == 1
    assert digest(tmp_path / "run") == references["adam"]

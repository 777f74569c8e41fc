"""Jobs over several hosts, with real TCP between them, where the machine permits namespaces."""

import shlex
import sys

import pytest
from conftest import ROOT, SMALL, dbp, digest, launcher, run
from hosts import Hosts, environment, why_not

LARGER = ("--set", "model.layers.1.units=300")  # enough weights to be dealt to the ranks
BARE = {"OMPI_MCA_btl": "self,sm,tcp"}

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def on_hosts(ranks, *words, timeout=100):
    """Run a command of dbp on emulated hosts with so many ranks each."""
    places = ",".join(map(str, ranks))
    return run(sys.executable, ROOT / "benchmarks" / "hosts.py", places, "--", *words, env=BARE, timeout=timeout)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The digest of what one process makes of the small config, made larger."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "small.toml").write_text(SMALL)
    assert dbp("train", folder / "small.toml", *LARGER, "--out", folder / "run").code == 0
    return digest(folder / "run")


@pytest.mark.parametrize("ranks", [(1, 1), (2, 1), (1, 2, 1)])
@pytest.mark.parametrize("divided", ["false", "true"])
def test_any_hosts_give_the_same_bits(small, tmp_path, reference, ranks, divided):
    outcome = on_hosts(ranks, "train", small, *LARGER, "--set", f"divide_state={divided}")
    assert outcome.code == 0, outcome.text
    assert f"{sum(ranks)} ranks on {len(ranks)} nodes (Open MPI" in outcome.out
    assert digest(tmp_path / "run") == reference


def test_a_rank_that_fails_on_another_host_ends_all(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, dbp, socket\n"
        "def model(scope, x):\n"
        "    if scope.training and socket.gethostname() == 'h1':\n"
        "        raise ZeroDivisionError('on h1')\n"
        "    return dbp.nn.Dense(2)(scope.inside('a'), dbp.nn.Dense(500)(scope.inside('b'), x))\n"
        "x = np.ones((40, 30))\n"
        "dbp.fit(model=model, loss='mean_squared_error', data=(x, x[:, :2]),\n"
        "        optimizer=dbp.optim.SGD(0.1), epochs=3, batch_size=8, quiet=True)\n"
    )
    outcome = on_hosts((2, 1), sys.executable, script, timeout=40)
    assert outcome.code != 0
    assert outcome.text.count("ZeroDivisionError: on h1") == 1
    assert "of 3 on h1 failed" in outcome.text


def test_ranks_of_different_hosts_talk_over_their_network(small, tmp_path):
    with Hosts(2) as hosts:
        assert hosts.run("h1", "hostname").strip() == "h1"
        before = hosts.sent("h0")
        train = (sys.executable, "-m", "dbp", "train", small, *LARGER)
        outcome = run(*hosts.mpirun([1, 1], *map(str, train)), env=environment(2) | BARE)
        assert outcome.code == 0, outcome.text
        steps, bytes_of_weights = 52, 4 * (65 * 300 + 301 * 10)
        assert 0.9 < (hosts.sent("h0") - before) / (steps * bytes_of_weights) < 1.6
    assert digest(tmp_path / "run")


def test_too_little_shared_memory_is_told_and_costs_no_bit(small, tmp_path, reference):
    """In a mount namespace of its own, where shared memory is as small as in some containers."""
    command = [launcher(), "-n", "2", sys.executable, "-m", "dbp", "train", small, *LARGER]
    little = "mount -t tmpfs -o size=12m tmpfs /dev/shm && exec " + shlex.join(map(str, command))
    outcome = run("unshare", "--mount", "sh", "-c", little)
    assert outcome.code == 0, outcome.text
    assert outcome.out.count("warning: every rank keeps weights and optimizer state of its own, as /dev/shm of ") == 1
    assert digest(tmp_path / "run") == reference

"""Every method under mpirun: the same bits on any number of ranks and nodes, and after a second start.

benchmarks/equal_bits.py compares all methods on more ranks and nodes.
"""

import sys

import pytest

from tests.hosts import why_not
from tests.jobs import PROGRAMS, ROOT, mpirun, run

pytestmark = pytest.mark.slow

PROGRAM = PROGRAMS / "optimizer_digests.py"
OF_SCIPY = ("scipy BFGS", "scipy CG", "scipy trust-krylov")  # in most jobs: the other methods share their driver
SOME = ("sgd", "adam", "clipped", "lbfgs", "newton")  # for what does not depend on the method


def digests(outcome):
    """Return the digests of weights that the program prints, by method."""
    assert outcome.code == 0, outcome.text
    return dict(line.split(": ") for line in outcome.out.splitlines())


@pytest.fixture(scope="module")
def of_one_rank(tmp_path_factory):
    found = digests(mpirun(1, PROGRAM, tmp_path_factory.mktemp("one"), timeout=180))
    assert len(set(found.values())) == len(found)
    return found


def test_every_method_on_three_ranks(of_one_rank, tmp_path):
    assert digests(mpirun(3, PROGRAM, tmp_path, "--resume", timeout=180)) == of_one_rank


def test_nodes_with_a_divided_state(of_one_rank, tmp_path):
    expected = {name: d for name, d in of_one_rank.items() if not name.startswith("scipy") or name in OF_SCIPY}
    outcome = mpirun(3, PROGRAM, tmp_path, *expected, "--divide", env={"DBP_NODE_SIZES": "2,1"}, timeout=180)
    assert digests(outcome) == expected


@pytest.mark.parametrize(
    ("ranks", "nodes", "words"),
    [
        (5, "", ("--private",)),
        (4, "1,2,1", ("--resume",)),
    ],
)
def test_many_ranks_and_private_memory(ranks, nodes, words, of_one_rank, tmp_path):
    found = digests(mpirun(ranks, PROGRAM, tmp_path, *SOME, *words, env={"DBP_NODE_SIZES": nodes}))
    assert found == {name: of_one_rank[name] for name in SOME}


def test_mpich_too(of_one_rank, tmp_path, mpich_python):
    options = {"python": mpich_python, "env": {"DBP_NODE_SIZES": "2,1,1"}, "timeout": 120}
    outcome = mpirun(4, PROGRAM, tmp_path, *SOME, **options)
    assert digests(outcome) == {name: of_one_rank[name] for name in SOME}


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize(("hosts", "words"), [("1,2", ("--private",)), ("1,2,1", ("--resume",))])
def test_hosts_with_a_network_between(hosts, words, of_one_rank, tmp_path):
    command = (sys.executable, ROOT / "tests" / "hosts.py", hosts, "--", sys.executable, PROGRAM, tmp_path)
    few = ("adam", "lbfgs")
    outcome = run(*command, *few, *words, env={"OMPI_MCA_btl": "self,sm,tcp"})
    assert digests(outcome) == {name: of_one_rank[name] for name in few}

"""Every method under mpirun: the same bits on any number of ranks and nodes, and after a second start."""

import pytest
from conftest import PROGRAMS, mpirun


def digests(folder, ranks, *words, nodes=None):
    """What the program prints: the digest of the weights, by method."""
    env = {"DBP_NODE_SIZES": nodes} if nodes else {}
    outcome = mpirun(ranks, PROGRAMS / "methods.py", folder / f"{ranks}-{nodes}-{len(words)}", *words, env=env)
    assert outcome.code == 0, outcome.text
    return dict(line.rsplit(" ", 1) for line in outcome.out.splitlines())


@pytest.fixture(scope="module")
def of_one_rank(tmp_path_factory):
    return digests(tmp_path_factory.mktemp("one"), 1)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks(ranks, of_one_rank, tmp_path):
    assert digests(tmp_path, ranks) == of_one_rank
    assert len(set(of_one_rank.values())) == len(of_one_rank)


@pytest.mark.parametrize("words", [(), ("--divide",)])
@pytest.mark.parametrize("nodes", ["2,1", "1,1"])
def test_any_nodes(nodes, words, of_one_rank, tmp_path):
    assert digests(tmp_path, sum(map(int, nodes.split(","))), *words, nodes=nodes) == of_one_rank

"""Nodes: how many threads their cores allow, and warnings about badly placed ranks, in real jobs too."""

import os
import sys

import pytest

from dbp.parallel import (
    CpuBinding,
    Node,
    OneProcess,
    nodes_of,
    placement_hints,
    placement_warnings,
    threads_per_rank,
    usable_cores,
)
from tests.jobs import PROGRAMS, dbp, mpirun, run

DBP = ("-m", "dbp")
FOUR = frozenset(range(4))


def node(*pinned, host="a", allowed=FOUR, limit=None, first=0):
    """Return a node whose ranks are pinned to these cores; None stands for a rank that is not pinned."""
    ranks = {first + i: allowed if cores is None else frozenset(cores) for i, cores in enumerate(pinned)}
    return Node(host, ranks, allowed, limit)


class FixedBindings(OneProcess):
    """A communicator whose ranks gather these bindings."""

    def __init__(self, *bindings):
        super().__init__()
        self.bindings = bindings

    def gather(self, value):  # noqa: ARG002
        return self.bindings


def test_ranks_are_grouped_by_machine_and_not_by_name_alone():
    def binding(host, boot, pinned, limit=None):
        return CpuBinding(host, boot, pinned, "0-7", limit)

    comm = FixedBindings(
        binding("a", "1", "0"), binding("b", "2", "0-7"), binding("a", "1", "1", 3.5), binding("a", "3", "0")
    )
    first, second, third = nodes_of(comm)
    assert (first.host, dict(first.pinned), first.limit) == ("a", {0: {0}, 2: {1}}, 3.5)
    assert (first.cores, first.pinned_cores, first.are_disjoint, first.is_unpinned) == (3, 2, True, False)
    assert (dict(second.pinned), second.cores, second.is_unpinned) == ({1: set(range(8))}, 8, True)
    assert dict(third.pinned) == {3: {0}}


@pytest.mark.parametrize(
    ("nodes", "threads"),
    [
        ([node(None)], 4),
        ([node(None, None)], 2),
        ([node(None, None, None)], 1),
        ([node(*[None] * 9)], 1),
        ([node({0}, {1})], 1),  # as Open MPI starts two ranks by default
        ([node({0, 1}, {2, 3})], 2),
        ([node(None, limit=2.5)], 2),
        ([node(None, limit=0.1)], 1),
        ([node(None), node(None, None, host="b", first=1)], 2),  # the same number everywhere
    ],
)
def test_threads_are_as_many_as_find_a_core_each(nodes, threads):
    assert threads_per_rank(nodes) == threads
    assert not placement_warnings(nodes, threads) or threads == 1


@pytest.mark.parametrize(
    ("pinned", "threads", "complaint"),
    [
        ([None], 1, None),
        ([None], 4, None),
        ([None], 5, "a has 4 cores for 1 rank with 5 threads each"),
        ([None] * 4, 1, None),
        ([None] * 5, 1, "a has 4 cores for 5 ranks with 1 thread each, which wait for each other; start fewer ranks"),
        ([None] * 4, 2, "or start again with fewer threads"),
        ([{0}, {1}], 1, None),
        ([{0, 1}, {0, 1}, {2, 3}], 1, None),
        (
            [{0}, {0}],
            1,
            "ranks 0-1 on a are pinned to core 0, but need 2 with 1 thread each, and the node has 4; start",
        ),
        ([{0}, {1}, {1}], 1, "ranks 1-2 on a are pinned to core 1, but need 2"),
        ([{0, 1}, {0}, {1}, {2, 3}], 1, "ranks 0-2 on a are pinned to cores 0-1, but need 3"),
        ([{0}], 2, "rank 0 on a is pinned to core 0, but needs 2 with 2 threads, and the node has 4; start"),
        ([{0, 1}, {2}], 2, "rank 1 on a is pinned to core 2, but needs 2 with 2 threads"),
        ([{0, 1}, {2, 3}], 2, None),
        ([{0}] * 5, 1, "a has 4 cores for 5 ranks"),
    ],
)
def test_warnings_about_placements_that_slow_ranks_down(pinned, threads, complaint):
    lines = placement_warnings([node(*pinned)], threads)
    assert len(lines) == (complaint is not None)
    if complaint is not None:
        assert complaint in lines[0]


def test_a_limit_is_named():
    (line,) = placement_warnings([node(None, None, limit=1.5)], 1)
    assert line.startswith("a has 1 core (a limit of 1.5 on 4 cores) for 2 ranks")


def test_many_nodes_take_one_line():
    nodes = [node({0}, {0}, host=f"n{i}", first=2 * i) for i in range(9)] + [node(*[None] * 5, host="z", first=18)]
    crowded = placement_warnings(nodes, 1)
    assert len(crowded) == 2
    assert crowded[0].startswith("z has 4 cores")
    assert crowded[1].startswith("ranks 0-1 on n0 are")
    assert crowded[1].endswith("(and likewise on 8 more nodes)")


def test_hints_are_given_where_nothing_is_wrong():
    assert placement_hints([node(None), node({0}, {1}, {2}, host="b")], 1) == []
    assert placement_hints([node({0}, {0}), node(*[None] * 5)], 1) == []
    (free,) = placement_hints([node(None, None)], 1)
    assert "ranks on a may run on the same cores" in free
    (narrow,) = placement_hints([node({0}, {1})], 1)
    assert "ranks on a are pinned to 2 of its 4 cores" in narrow
    assert "slot:PE=2" in narrow


# --- real jobs --------------------------------------------------------------------------------------


def warnings(outcome):
    assert outcome.code == 0, outcome.text
    return [line for line in outcome.out.splitlines() if line.startswith("warning: ")]


@pytest.fixture
def count():
    """Return the cores of this machine; skip if too few to pin ranks, or too many to start one rank each."""
    count = usable_cores() if hasattr(os, "sched_setaffinity") else 0
    if not 2 <= count <= 8:
        pytest.skip("needs 2 to 8 cores that ranks can be pinned to")
    return count


@pytest.mark.slow
@pytest.mark.usefixtures("count")
def test_ranks_with_a_core_each_are_not_warned_of(small):
    assert warnings(dbp("train", small, "--set", "epochs=1")) == []
    assert warnings(dbp("run", "-n", "2", "--", "train", small, "--fresh", "--set", "epochs=1")) == []


@pytest.mark.slow
def test_more_ranks_than_cores_are_warned_of_once(small, count):
    (line,) = warnings(mpirun(count + 1, *DBP, "train", small, "--set", "epochs=1", "--set", "shards=9"))
    assert f"for {count + 1} ranks with 1 thread each, which wait for each other; start fewer ranks there" in line


@pytest.mark.slow
@pytest.mark.usefixtures("count")
def test_ranks_on_one_core_are_warned_of_once(small):
    core = min(os.sched_getaffinity(0))
    words = (PROGRAMS / "pinned_command.py", core, "train", small, "--set", "epochs=1")
    (line,) = warnings(mpirun(2, *words))
    assert line.startswith("warning: ranks 0-1 on ")
    assert f"pinned to core {core}, but need 2 with 1 thread each" in line
    (line,) = warnings(run(sys.executable, *words, "--fresh", "--set", "threads=2"))
    assert f"is pinned to core {core}, but needs 2 with 2 threads" in line


@pytest.mark.slow
def test_threads_are_found_at_the_first_start_and_kept(small, tmp_path, count):
    """One rank uses all cores; two ranks, which have fewer each, resume with the same number of threads."""
    auto = ("--set", "threads=auto")
    assert f"\n{count} BLAS threads per rank" in dbp("train", small, *auto, "--set", "epochs=1").out
    resumed = mpirun(2, *DBP, "train", small, *auto, "--accept", "epochs")
    assert f"\n{count} BLAS threads per rank" in resumed.out
    assert f"for 2 ranks with {count} threads each" in resumed.out
    assert "resumed from" in resumed.out
    refused = dbp("train", small, "--set", "threads=1")
    assert refused.code == 2
    assert f"threads: {count} in the checkpoint, 1 now" in refused.err
    assert dbp("eval", tmp_path / "run", "dbp:digits-test").code == 0

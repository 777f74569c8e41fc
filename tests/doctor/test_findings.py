"""Parts of the report, each from facts made up for it."""

import numpy as np
import pytest

from dbp.doctor import Finding, storage, trials
from dbp.doctor.collective_work import _clocks, _links
from dbp.doctor.findings import BAD, GOOD, WARNING, Report
from dbp.doctor.links import ClockOffset
from dbp.doctor.nodes import node_findings
from dbp.doctor.software import RankFacts, environment_findings
from dbp.parallel import Node, Nodes, OneProcess
from dbp.parallel.ranks.node_group import SingleRank
from tests.jobs import mpirun


def facts(processor="P", memory=2e9, load=0.0, core_type="", **versions):
    known = dict.fromkeys(("dbp", "Python", "NumPy", "mpi4py", "CPU features", "C library", "h5py", "HDF5"), "2")
    known["BLAS"] = "o"
    return RankFacts(known | versions, processor, memory, None, core_type, load)


def test_nodes_that_are_alike_take_one_line_with_the_least_memory():
    cores = frozenset(range(4))
    nodes = [Node(f"n{i}", {2 * i: cores, 2 * i + 1: cores}, cores) for i in range(3)]
    nodes.append(Node("z", {6: frozenset({0}), 7: frozenset({1, 2})}, cores, limit=3.0))
    memory = [9e9, 9e9, 5e9, 6e9, 9e9, None, 9e9, 9e9]
    found = list(node_findings(nodes, [facts(memory=m) for m in memory], 1))
    assert [f.found for f in found if f.check == "node"] == [
        "n0 and 2 more: 2 ranks with 1 thread each on 4 cores (P)",
        "z: 2 ranks with 1 thread each on 3 cores (P)",
    ]
    assert found[-1] == Finding("memory", GOOD, "5.00 GB free on n1, the least")


def test_too_little_memory_and_others_programs_are_warnings():
    node = Node("n", {0: frozenset({0}), 1: frozenset({1})}, frozenset({0, 1}))
    found = {f.check: f for f in node_findings([node], [facts(memory=1e8, load=1.5)] * 2, 1)}
    assert (found["pinning"].state, found["memory"].state, found["load"].state) == (GOOD, WARNING, WARNING)
    assert "n (1.5 of 2 cores)" in found["load"].found


def test_ranks_that_differ_are_named():
    told = list(environment_findings([facts(), facts(Python="3"), facts(BLAS="p"), facts(Python="3")]))
    assert told[0] == Finding(
        "environment",
        BAD,
        "ranks differ in Python (2 on ranks 0,2, 3 on ranks 1,3)",
        "start all of them in the same environment",
    )
    assert (told[1].state, told[1].found) == (BAD, "ranks differ in BLAS (o on ranks 0-1,3, p on rank 2)")
    assert told[1].remedy.endswith('set kernels = "x86-64-v3", or train with --accept kernels')
    (other,) = [f for f in environment_findings([facts(), facts("Q")]) if f.state != GOOD]
    assert (other.state, other.found) == (WARNING, "ranks differ in processor (P on rank 0, Q on rank 1)")
    assert [f.state for f in environment_findings([facts(), facts()])] == [GOOD] * 4


def test_links_that_are_slow_and_clocks_that_differ_are_warnings():
    hosts = ["a", "b", "c"]
    assert _links(hosts, [1e9, 1e9, 0.9e9], 1e-5).state == GOOD
    assert "check the network of b and c" in _links(hosts, [1e9, 1e9, 0.4e9], 1e-5).remedy
    assert "OMPI_MCA_btl_tcp_if_include" in _links(hosts[:2], [1e6, 1e6], 1e-5).remedy
    assert _clocks(hosts, [ClockOffset(1, 1e-3, 1e-4), ClockOffset(2, -2e-3, 1e-4)]) == Finding(
        "clocks", GOOD, "c is 2.00 ms behind a (give or take 0.10 ms)"
    )
    assert _clocks(hosts, [ClockOffset(1, 1e-5, 1e-4)]).found == "the same on all nodes, give or take 0.10 ms"
    assert _clocks(hosts, [ClockOffset(1, 3.0, 1e-4)]).state == WARNING


def test_locks_that_keep_nobody_out_are_told(tmp_path):
    held = tmp_path / "lock"
    held.touch()
    assert storage._try(held) == storage._another_process(held) == storage.LET_IN
    with held.open() as file:
        storage.fcntl.flock(file, storage.fcntl.LOCK_EX)
        assert storage._try(held) == storage._another_process(held) == storage.KEPT_OUT
    assert storage._try(tmp_path / "none") == storage.NOT_SEEN
    assert storage._own_node(storage.LET_IN).state == BAD
    assert storage._own_node(False).state == storage._own_node(storage.UNKNOWN).state == WARNING
    assert "1 of 3 nodes" in storage._other_nodes([storage.KEPT_OUT, storage.NOT_SEEN]).found
    assert storage._other_nodes([storage.LET_IN]).state == WARNING


def test_what_is_bad_comes_last_and_colors_change_nothing_else():
    parts = [[Finding("one", GOOD, "x " * 60)], [Finding("two", BAD, "y", "z " * 50), Finding("three", WARNING, "y")]]
    report = Report("dbp", parts)
    plain = report.text()
    assert plain.splitlines()[-2:] == ["1 warning: three", "1 bad, fix this first: two"]
    assert max(map(len, plain.splitlines())) <= 80
    colored = report.text(colors=True)
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"):
        assert code in colored
        colored = colored.replace(code, "")
    assert colored == plain
    assert (report.exit_code, Report("dbp", parts[:1]).exit_code) == (1, 0)


class NodeOfTwo(SingleRank):
    """The node of two ranks; the other one writes its half of the memory, or does not; None if none can be had."""

    def __init__(self, writes):
        self.writes = writes

    def allocate(self, length):
        memory = super().allocate(length)
        if self.writes:
            half = memory.bytes.view(np.float32)[trials.LENGTH // 2 :]
            half[:] = np.arange(trials.LENGTH // 2, trials.LENGTH)
        return memory if self.writes is not None else None


class Two(OneProcess):
    """Rank 0 of two, whose peer answers as given."""

    size, nodes = 2, Nodes((2,))

    def __init__(self, answer, memory=True):
        super().__init__()
        self.answer, self.node = answer, NodeOfTwo(memory)

    def gather(self, value):
        return [value, self.answer]


def test_shared_memory_works_if_all_read_what_all_wrote():
    assert trials.shared_memory(Two(answer=True)).worked is True
    assert trials.shared_memory(Two(answer=False)).worked is False
    assert trials.shared_memory(Two(answer=True, memory=False)).worked is False
    assert trials.shared_memory(Two(answer=True, memory=None)).worked is None
    assert trials.shared_memory(OneProcess()).worked is None


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_hangs_is_ended_and_told_once(tmp_path, ranks):
    program = tmp_path / "hanging.py"
    program.write_text(
        "import time\n"
        "from dbp.doctor import trials\n"
        "from dbp.parallel import world\n"
        "comm = world()\n"
        "with trials.in_time(comm, 'a barrier', 0.5):\n"
        "    if comm.rank == comm.size - 1:\n"
        "        time.sleep(600)\n"
        "    comm.barrier()\n"
    )
    outcome = mpirun(ranks, program)
    assert outcome.code != 0
    assert outcome.err.count("a barrier did not end within 0.5 s on") == 1
    assert "Traceback" not in outcome.err

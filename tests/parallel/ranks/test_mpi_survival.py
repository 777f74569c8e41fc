"""Jobs in which ranks are killed and the others finish with the same bits, under Open MPI's mpirun --with-ft ulfm."""

import json
import os
import random
import sys

import pytest

from tests.hosts import Hosts, environment, why_not
from tests.jobs import PROGRAMS, launcher, mpirun, run
from tests.shared_memory import left_in_shared_memory, shared_memory

pytestmark = pytest.mark.slow

PROGRAM = PROGRAMS / "steps_with_deaths.py"
STAGES = ("before", "sum", "waiting", "update", "barrier")
STEPS = 6  # as the program has


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return the last vector of one process."""
    path = tmp_path_factory.mktemp("reference") / "whole.npy"
    outcome = run(sys.executable, PROGRAM, path, "none:0:0")
    assert outcome.code == 0, outcome.text
    return path.read_bytes()


def survivable(ranks, *command, **options):
    """Run a Python command line on several ranks, of which some may outlive others."""
    return run(launcher(), "--with-ft", "ulfm", "-n", ranks, sys.executable, *command, **options)


def check(outcome, path, reference, ranks, kills):
    """Check that all survivors finished in time, with the bits of an undisturbed run."""
    assert outcome.code == 0, f"{kills}\n{outcome.text}"
    assert f"ranks left: {ranks - len(kills)};" in outcome.out, f"{kills}\n{outcome.text}"
    times = json.loads(outcome.out.partition("back after ")[2].removesuffix(" ms\n"))
    assert 0 < len(times) <= len(kills)
    assert path.read_bytes() == reference, kills


def deaths(seed):
    """Return ranks by node, and which of them die where: two at once, in turn, or while the survivors reconnect."""
    rng = random.Random(seed)
    sizes = rng.choice([(2,), (3,), (4,), (1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (1, 1, 1)])
    step, stage = rng.randrange(STEPS), rng.choice(STAGES)
    who = rng.sample(range(sum(sizes)), rng.choice([1, 1, 2]) if sum(sizes) > 2 else 1)
    kills = [f"{stage}:{step}:{who[0]}"]
    for rank in who[1:]:
        later = [f"meeting{rng.choice([0, 1, 2, 4, 8, 20])}:{step}", f"{rng.choice(STAGES)}:{rng.randrange(STEPS)}"]
        kills.append(f"{rng.choice([f'{rng.choice(STAGES)}:{step}', *later])}:{rank}")
    return sizes, kills, rng.choice([(), ("divide",)])


CASES = [
    ((2,), ["waiting:2:1"], ()),
    ((3,), ["before:1:0"], ()),
    ((2, 2), ["sum:2:3"], ()),
    ((1, 2), ["update:1:0"], ("divide",)),
    ((4,), ["barrier:2:1", "waiting:2:2"], ()),
    ((2, 2), ["update:5:0", "meeting1:5:3"], ("divide",)),
    *(deaths(seed) for seed in range(int(os.environ.get("DBP_TEST_DEATHS", "0")))),
]


@pytest.mark.parametrize(("sizes", "kills", "words"), CASES, ids=str)
def test_survivors_finish_with_the_same_bits(tmp_path, reference, sizes, kills, words):
    before = shared_memory()
    nodes = ",".join(map(str, sizes)) if len(sizes) > 1 else ""
    outcome = survivable(
        sum(sizes), PROGRAM, tmp_path / "out.npy", ",".join(kills), *words, env={"DBP_NODE_SIZES": nodes}
    )
    check(outcome, tmp_path / "out.npy", reference, sum(sizes), kills)
    assert left_in_shared_memory(before) == set()


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_survivors_on_two_hosts_finish_with_the_same_bits(tmp_path, reference):
    kills = ["waiting:1:0", "update:3:2"]
    with Hosts(2) as hosts:
        words = ("--with-ft", "ulfm", sys.executable, str(PROGRAM), str(tmp_path / "out.npy"), ",".join(kills))
        outcome = run(*hosts.mpirun([2, 2], *words), env=environment(4) | {"OMPI_MCA_btl": "self,sm,tcp"})
    check(outcome, tmp_path / "out.npy", reference, 4, kills)


ONE_DIES = "comm = world()\nif comm.rank == 1:\n    os.kill(os.getpid(), signal.SIGKILL)\n"


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(f"import os, signal, sys, time\nimport dbp.parallel.ranks.mpi\nfrom dbp.parallel import *\n{text}")
    return path


def test_a_rank_that_dies_before_mpi_has_started_ends_all(tmp_path):
    path = script(
        tmp_path,
        "dbp.parallel.ranks.mpi.START_SECONDS = 3\n"
        "if os.environ['OMPI_COMM_WORLD_RANK'] == '1':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "world()\n",
    )
    outcome = survivable(3, path)
    assert outcome.code == 75, outcome.text
    assert "Timeout" in outcome.err


def test_a_survivor_that_does_not_reconnect_ends_all(tmp_path):
    path = script(
        tmp_path,
        ONE_DIES + "if comm.rank == 2:\n"
        "    time.sleep(600)\n"
        "try:\n"
        "    comm.barrier()\n"
        "except RankLostError:\n"
        "    survivors(1.5)\n",
    )
    outcome = survivable(3, path)
    assert outcome.code == 75, outcome.text
    assert outcome.err.count("ranks that live have not come together within 1.5 s; all ranks end") == 1


def test_an_uncaught_exception_ends_all_ranks_and_is_reported_once(tmp_path):
    path = script(
        tmp_path,
        ONE_DIES + "comm.barrier()\ntime.sleep(600)\n",
    )
    outcome = survivable(3, path)
    assert outcome.code == 1
    assert outcome.err.count("another rank has died; all ranks end") == 1
    assert "Traceback" not in outcome.err


def test_the_exit_code_of_abort_is_that_of_the_job(tmp_path):
    path = script(tmp_path, "comm = world()\nif comm.rank == 1:\n    comm.abort(74)\ncomm.barrier()\n")
    assert survivable(3, path).code == 74


PRINTS = (
    "comm = world()\n"
    "if comm.rank == 0:\n    print('survives:', comm.survival.enabled)\n"
    "comm.survival.confirm()\n"
    "comm.barrier()\n"
)


def test_ranks_survive_only_if_the_launcher_was_asked_for_it(tmp_path):
    path = script(tmp_path, PRINTS)
    assert survivable(2, path).out == "survives: True\n"
    assert mpirun(2, path).out == "survives: False\n"
    assert run(sys.executable, path).out == "survives: False\n"


def test_ranks_do_not_survive_with_mpich(tmp_path, mpich_python):
    assert mpirun(2, script(tmp_path, PRINTS), python=mpich_python).out == "survives: False\n"

"""Errors on some or all ranks: they are reported once, and the whole job ends."""

import re

import pytest

from dbp.errors import UserError
from dbp.parallel import OneProcess, agree, agree_and_gather, from_rank_0
from tests.jobs import PROGRAMS, mpirun, slow
from tests.shared_memory import left_in_shared_memory, shared_memory

DBP = ("-m", "dbp")


def test_a_mistake_is_reported_once_and_not_once_a_rank(small, tmp_path):
    outcome = mpirun(3, *DBP, "train", small, "--set", "optimizer.kind=adm")
    assert outcome.code == 2
    assert outcome.err.count("unknown optimizer kind 'adm'; did you mean 'adam'?") == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_wrong_command_line_is_reported_once():
    outcome = mpirun(3, *DBP, "train", "--fesh", "x.toml")
    assert outcome.code == 2
    assert outcome.err.count("unrecognized arguments: --fesh; see dbp --help") == 1
    assert "usage" not in outcome.err


def test_one_process_agrees_with_itself_on_values_and_errors():
    def fail():
        raise UserError("wrong")

    for call in (agree, from_rank_0):
        assert call(OneProcess(), lambda x: x + 1, 2) == 3
        with pytest.raises(UserError, match="wrong") as caught:
            call(OneProcess(), fail)
        assert caught.value.on_all_ranks
    assert agree_and_gather(OneProcess(), lambda x: (x + 1, "message"), 2) == (3, ["message"])
    with pytest.raises(UserError, match="wrong"):
        agree_and_gather(OneProcess(), fail)


@pytest.mark.parametrize("rank", [2, *slow(0)])
@pytest.mark.parametrize("way", ["raise", *slow("exit0", "exit3", "kill", "crash", "user", "outside")])
def test_a_failing_rank_ends_all(rank, way):
    before = shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing_training.py", rank, 20, way)
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    if way in ("raise", "outside"):
        assert outcome.err.count("ZeroDivisionError: ") == 1
        assert outcome.err.count("Traceback") == 1
    if way in ("raise", "outside", "exit0", "exit3"):
        assert outcome.err.count(f"dbp: rank {rank} of 3 on ") == 1
    if way == "crash":  # without the handlers of MPI, which may wait forever for a lock that the crash holds
        assert outcome.err.count("Fatal Python error: Segmentation fault") == 1
        assert re.search(r'failing_training\.py", line \d+ in model', outcome.err)
        assert "Process received signal" not in outcome.err
    if way == "user":
        assert outcome.err.count("found on one rank only") == 1
        assert f"dbp: error: rank {rank} of 3" in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_an_error_on_all_ranks_is_reported_once():
    outcome = mpirun(3, PROGRAMS / "failing_training.py", -1, 20, "raise")
    assert outcome.code == 1
    assert outcome.err.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "exit0", "kill"])
def test_a_failing_rank_ends_all_with_mpich_too(mpich_python, way):
    before = shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing_training.py", 1, 20, way, python=mpich_python)
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    assert outcome.err.count("dbp: rank 1 of 3 on ") == (way != "kill")
    assert outcome.err.count("ZeroDivisionError: ") == (way == "raise")


@pytest.mark.slow
def test_the_mistake_of_a_script_is_reported_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import dbp\n"
        "dbp.fit(model=[dbp.nn.Dense(3)], loss='cross_entropy', data='missing.h5',\n"
        "        optimizer=dbp.optim.SGD(0.1), epochs=1, batch_size=2)\n"
    )
    outcome = mpirun(3, script)
    assert outcome.code == 2
    assert outcome.err.count("dbp: error: data file missing.h5 does not exist") == 1
    assert "Traceback" not in outcome.err

"""How scripts end: their exit codes, and what they print of exceptions."""

import os
import sys

import pytest

from dbp.process.rank_note import OWNER, title
from dbp.script import hooks
from tests.jobs import PROGRAMS, dbp, mpirun, run

FIT = """
import os, signal, sys, numpy as np, dbp
sent = []
def model(scope, x):
    if scope.training and not sent:
        sent.append(os.kill(os.getpid(), signal.SIGINT))
    return dbp.nn.Dense(2)(scope.inside("dense"), x)
dbp.fit(model=model, loss="mean_squared_error", data=(np.eye(4), np.eye(4)[:, :2]), optimizer=dbp.optim.SGD(0.1),
        epochs=3, batch_size=4, quiet=True, out=sys.argv[1] if len(sys.argv) > 1 else None)
"""


def test_a_mistake_takes_one_line_and_an_error_its_traceback():
    outcome = run(sys.executable, "-c", "import dbp; dbp.optim.SGD(-1.0)")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
    assert outcome.err.startswith("dbp: error: learning_rate must be ")
    outcome = run(sys.executable, "-c", "import dbp; 1 / 0")
    assert (outcome.code, outcome.err.count("Traceback")) == (1, 1)


@pytest.mark.parametrize("folder", [True, False])
def test_an_interrupt_that_is_not_caught_has_the_exit_code_of_what_it_left(tmp_path, folder):
    outcome = run(sys.executable, "-c", FIT, *([tmp_path / "run"] if folder else []))
    assert (outcome.code, outcome.err) == (75 if folder else 130, "\ndbp: interrupted\n")
    assert (tmp_path / "run" / "checkpoints" / "step-000000001.h5").exists() == folder


@pytest.mark.parametrize(
    ("way", "ends_all"), [("a rank", True), ("its child", False), ("its fork", False), ("its child with MPI", True)]
)
def test_an_exception_ends_all_ranks_only_from_a_rank(monkeypatch, way, ends_all):
    ended, shown, noted = [], [], []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: shown.append(error))
    monkeypatch.setattr("dbp.parallel.end_script", ended.append)
    monkeypatch.setattr("dbp.parallel.is_connected", lambda: way == "its child with MPI")
    monkeypatch.setattr("atexit.register", noted.append)
    monkeypatch.setattr(hooks.rank_note, "write", lambda *words: noted.append(words))
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_NAMESPACE": "of this"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(OWNER, f"1 {title()} 1" if way.startswith("its child") else "")
    hooks.set_hooks()
    if way == "its fork":
        child = os.getpid() + 1
        monkeypatch.setattr("os.getpid", lambda: child)
    error = ValueError("of this test")
    sys.excepthook(ValueError, error, None)
    assert ended == [error] * ends_all
    assert (error in shown) or ends_all
    assert bool(noted) == (not way.startswith("its child"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "user"])
def test_an_exception_on_one_rank_before_fit_ends_all(way):
    outcome = mpirun(2, PROGRAMS / "uneven_script.py", way)
    assert outcome.code != 0
    assert outcome.err.count("dbp: rank 1 of 2 on ") == (way == "raise")
    assert outcome.err.count("dbp: error: rank 1 of 2 on ") == (way == "user")
    assert outcome.err.count("Traceback") == (way == "raise")


@pytest.mark.slow
def test_a_rank_that_leaves_before_fit_ends_all_at_once_under_dbp_run():
    outcome = dbp("run", "-n", "2", "--", PROGRAMS / "uneven_script.py", "exit", env={"END_AFTER": "60"})
    assert outcome.code == 2
    assert outcome.err.startswith("dbp: error: rank ")
    assert "come to the end of the program" in outcome.err

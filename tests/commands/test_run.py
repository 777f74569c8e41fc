"""dbp run starts ranks: quiet launchers, exit codes, signals, terminals, and refusals of other MPIs."""

import os
import re
import shlex
import signal
import sys

import pytest

from dbp.commands.run import rank_command
from dbp.errors import UserError
from tests import processes
from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, dbp, digest, launcher, run
from tests.launcher import ONCE_MORE
from tests.processes import ProcessTree, run_on_terminal, wait_until

DBP = ("-m", "dbp")


def interrupted(python, small, number):
    """Return the outcome of dbp run when it gets a signal in the middle of training."""
    command = [python, *DBP, "run", "-n", "2", "--", "train", str(small), "--set", "epochs=100000"]
    with ProcessTree(*command, env=os.environ | LAUNCHER_SETTINGS) as tree:
        assert wait_until(lambda: " 2/100000  " in tree.out), tree.err
        tree.process.send_signal(number)
        return tree.wait(), tree.out, tree.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, r"SIGINT \(Ctrl-C\)"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_dbp_run_has_a_training_save_before_it_ends(small, tmp_path, number, name):
    code, out, err = interrupted(sys.executable, small, number)
    assert (code, err) == (75, "")
    assert len(re.findall(rf"^stop requested by {name} \(rank [01]\): saved step ", out, re.MULTILINE)) == 1
    step = int(out.partition(": saved step ")[2].partition(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:09d}.h5").exists()


@pytest.mark.slow
def test_dbp_run_with_mpich_has_a_training_save_too(small, mpich_python):
    code, out, err = interrupted(mpich_python, small, signal.SIGINT)
    assert (code, err) == (75, "")
    assert ": saved step " in out


@pytest.mark.slow
def test_dbp_run_starts_ranks_without_noise(small, tmp_path, reference):
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_SETTINGS}
    command = (sys.executable, *DBP, "run", "-n", 3, "--", "train", small)
    outcome = processes.run(*command, env=environment)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("dbp 0.1.0: 3 ranks (Open MPI")
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_dbp_run_passes_on_errors_and_exit_codes_without_noise(small):
    outcome = dbp("run", "-n", "2", "--", "train", small, "--set", "loss=foo")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    outcome = dbp("run", "-n", "2", "--", PROGRAMS / "failing_training.py", "1", "5", "raise")
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback")
    assert outcome.err.rstrip().endswith("failed with ZeroDivisionError; all ranks end")


@pytest.mark.slow
def test_dbp_run_with_mpich(small, tmp_path, reference, mpich_python):
    outcome = run(mpich_python, *DBP, "run", "-n", "2", "--", "train", small)
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 ranks (MPICH" in outcome.out
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_a_launcher_of_another_mpi_is_refused(small, tmp_path, mpich_python):
    outcome = run(launcher(mpich_python), "-n", "2", sys.executable, *DBP, "train", small)
    assert outcome.code == 2
    assert outcome.err.count("the launcher started 2 ranks, but each of them sees one rank only") == 1
    assert not (tmp_path / "run").exists()


def on_a_terminal(command):
    """Return what a command shows on a terminal of its own; check its exit code."""
    outcome = run_on_terminal(*command, env=os.environ | LAUNCHER_SETTINGS)
    assert outcome.code == 0, outcome.out
    return outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("start", ["mpirun", "dbp run"])
def test_a_terminal_shows_one_bar_and_the_lines_in_order(small, tmp_path, start):
    train = [sys.executable, *DBP, "train", str(small)]
    run_words = [sys.executable, *DBP, "run", "-n", "2", "--", "train", str(small)]
    command = [*ONCE_MORE, launcher(), "-n", "2", *train] if start == "mpirun" else run_words
    shown = on_a_terminal(command)
    places = [shown.index(text) for text in ("dbp 0.1.0", "*  1/2 ", "*  2/2 ", "finished", "test:")]
    assert places == sorted(places)
    assert "\repoch 1/2 " in shown
    assert "0/26" in shown
    into_a_file = on_a_terminal(["sh", "-c", f"{shlex.join(command)} --fresh > {tmp_path}/log"])
    assert "*  1/2 " not in into_a_file
    assert "0/26" in into_a_file
    assert len((tmp_path / "log").read_text().splitlines()) == 13


# --- what each rank executes ------------------------------------------------------------------------------


def test_ranks_execute_commands_scripts_and_programs(tmp_path):
    assert rank_command(["train", "c.toml"]) == [sys.executable, "-m", "dbp", "train", "c.toml"]
    script = tmp_path / "my.py"
    script.touch()
    assert rank_command([str(script), "1"]) == [sys.executable, "-m", "dbp.script", str(script), "1"]
    with pytest.raises(UserError, match=r"there is no script your\.py "):
        rank_command(["your.py"])
    assert rank_command(["hostname"]) == ["hostname"]


@pytest.mark.parametrize("command", ["convert", "run", "status"])
def test_commands_that_would_only_be_repeated_are_refused(command):
    with pytest.raises(UserError, match=f"dbp {command} works in one process; start it without dbp run"):
        rank_command([command])

"""Process trees end at their limit, wherever their processes are; so do tests, with all that they have started."""

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.processes import ProcessTree, TimeLimitError, is_running, run, run_on_terminal, wait_until

ROOT = Path(__file__).parents[1]
SLEEPER = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(f"process {os.getpid()}.", flush=True)
time.sleep(600)
"""
DAEMON = f"""
import os
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
{SLEEPER}"""
APART = ("unshare", "--pid", "--mount", "--fork", "--mount-proc")


def printed(text):
    """Return the process number that a sleeper has printed; 0 if it has not yet."""
    return int(text.partition("process ")[2].partition(".")[0] or 0)


def may_set_processes_apart():
    return os.geteuid() == 0 and shutil.which("unshare") and run(*APART, "true").code == 0


@pytest.mark.slow
def test_a_daemon_that_ignores_signals_and_keeps_the_outputs_is_ended_at_the_limit():
    with pytest.raises(TimeLimitError, match="no end within 10 s") as error:
        run(sys.executable, "-c", DAEMON, timeout=10)
    assert printed(error.value.output)
    assert not is_running(printed(error.value.output))


def test_a_process_without_the_mark_is_ended_as_a_descendant():
    without = shlex.join(["setsid", "env", "-i", sys.executable, "-c", SLEEPER])
    with ProcessTree("sh", "-c", f"{without} & wait") as tree:
        assert wait_until(lambda: printed(tree.out))
        pid = printed(tree.out)
        assert is_running(pid)
    assert not is_running(pid)


def test_a_daemon_with_process_numbers_of_its_own_is_ended():
    if not may_set_processes_apart():
        pytest.skip("processes cannot have numbers and mounts of their own here")
    keep = shlex.join([sys.executable, "-c", DAEMON]) + "; sleep 600"  # the first process, with which all would end
    with ProcessTree(*APART, "sh", "-c", keep) as tree:
        assert wait_until(lambda: printed(tree.out))
        assert printed(tree.out) not in tree.processes()
        inside = list(tree.processes())
        assert len(inside) >= 4
    assert not any(map(is_running, inside))


def test_an_exception_tells_what_the_process_had_printed():
    tree = ProcessTree("sh", "-c", "echo why; echo because >&2")

    def fail():
        with tree:
            tree.wait()
            raise AssertionError("it failed")

    with pytest.raises(AssertionError) as error:
        fail()
    assert error.value.__notes__ == ["sh -c echo why; echo because >&2 has printed:\nwhy\nbecause\n"]


@pytest.mark.slow
def test_a_terminal_that_is_not_left_is_taken_away():
    with pytest.raises(TimeLimitError, match="no end within 10 s") as error:
        run_on_terminal(sys.executable, "-c", SLEEPER, timeout=10)
    assert printed(error.value.output)
    assert not is_running(printed(error.value.output))


# --- the limit of a test ------------------------------------------------------------------------------

HANGS = {
    "in Python": "time.sleep(600)",
    "in a library": "lock(mutex), lock(mutex)",  # which keeps the interpreter's lock
    "in a fixture": "request.getfixturevalue('hanging')",
}
TESTS = """
import ctypes, subprocess, sys, time
import pytest
from tests import time_limits
time_limits.GRACE_SECONDS = 2.0
lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)

@pytest.fixture
def hanging():
    time.sleep(600)

@pytest.mark.time_limit(1)
def test_hangs(request):
    subprocess.Popen([sys.executable, "-c", {sleeper!r}], stdout=open({path!r}, "w"))
    {hang}

def test_goes_on():
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", HANGS)
def test_a_test_that_hangs_ends_with_all_that_it_has_started(tmp_path, where):
    path = tmp_path / "sleeper"
    (tmp_path / "test_it.py").write_text(TESTS.format(sleeper=SLEEPER, path=str(path), hang=HANGS[where]))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ("-p", "tests.time_limits", "-p", "no:cacheprovider", "-c", tmp_path / "pytest.ini", tmp_path)
    with ProcessTree(sys.executable, "-m", "pytest", *words, cwd=ROOT) as tree:
        code = tree.wait()
        pid = printed(path.read_text())
        assert pid
        assert wait_until(lambda: not is_running(pid))  # before the tree is ended
        out, err = tree.out, tree.err
    assert code == 1, out
    if where == "in a library":
        assert "in test_hangs" in err  # the line at which it hung
    else:
        assert "no end within 1 s" in out
        assert "1 failed, 1 passed" in out


def test_what_a_killed_pytest_has_started_is_ended(tmp_path):
    path = tmp_path / "sleeper"
    (tmp_path / "test_it.py").write_text(TESTS.format(sleeper=SLEEPER, path=str(path), hang="time.sleep(0.5)"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ("-p", "tests.time_limits", "-p", "no:cacheprovider", "-c", tmp_path / "pytest.ini", tmp_path)
    with ProcessTree(sys.executable, "-m", "pytest", *words, cwd=ROOT) as tree:
        assert wait_until(lambda: path.exists() and printed(path.read_text()))
        tree.process.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not is_running(printed(path.read_text())))

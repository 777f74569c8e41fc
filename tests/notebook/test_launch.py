"""Functions of a notebook on ranks, through a real kernel."""

import contextlib
import re
import threading
import time
from pathlib import Path

import pytest

import dbp
from dbp.errors import UserError
from tests.jobs import launcher
from tests.processes import LIMIT, wait_until

pytestmark = pytest.mark.slow
pytest.importorskip("cloudpickle")
manager = pytest.importorskip("jupyter_client.manager")

BEGINNING = """
import os
import time
import dbp
from dbp.parallel import world
from dbp.nn import Dense
import numpy as np

rows = np.random.default_rng(0).standard_normal((200, 4))

class Double:  # a layer of one's own, which only the notebook knows
    kind = "double"
    def __call__(self, scope, x):
        time.sleep(0.001)  # else training may end before the bar is drawn
        return x * 2.0

def train(epochs, out=None):
    return dbp.fit(
        model=[Double(), Dense(2)], loss="cross_entropy", data=(rows, (rows[:, 0] > 0).astype(int)),
        optimizer="adam", epochs=epochs, batch_size=10, shards=2, out=out,
    )
"""


def again_if_it_dies(start):
    """Call a function that starts a kernel, again if that dies at once: another program may take its port."""
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            return start()
    return start()


class Kernel:
    """A Jupyter kernel in a folder, with what its cells print."""

    def __init__(self, folder):
        launcher()  # else the test is skipped
        self._folder = folder
        self.manager, self.client = again_if_it_dies(lambda: manager.start_new_kernel(cwd=str(folder)))
        self.text = ""

    def begin(self, code):
        """Start a cell, and return its number."""
        return self.client.execute(code, store_history=False)

    def wait(self, cell, until=None, seconds=LIMIT):
        """Return what a cell raised once it ended, or None; return before, once it has printed a text."""
        error, end = None, time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=seconds)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "stream":
                self.text += content["text"]
            elif kind == "error":
                error = content["ename"], content["evalue"], "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return error
            if until is not None and until in self.text:
                return error
        raise TimeoutError(self.text)

    def run(self, code):
        """Run a cell to its end; return what it has printed, and what it raised."""
        self.text = ""
        error = self.wait(self.begin(code))
        return self.text, error

    def processes(self):
        """Return the processes that dbp.launch has started."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words, folder = (process / "cmdline").read_bytes().split(b"\0"), (process / "cwd").readlink()
            except OSError:  # it has just ended
                continue
            if {b"dbp.notebook", b"dbp.notebook.job"} & set(words) and folder == self._folder:
                found.append(process.name)
        return found

    def folders(self):
        """Return the folders through which those processes get what they call."""
        words = [Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0") for process in self.processes()]
        return {Path(word.decode()) for line in words for word in line if b"/dbp-" in word}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Start a kernel that has defined a training."""
    found = Kernel(tmp_path_factory.mktemp("notebook"))
    try:
        assert found.run(BEGINNING) == ("", None)
        yield found
    finally:
        found.client.stop_channels()
        found.manager.shutdown_kernel(now=True)


def test_it_returns_what_rank_0_returns_and_shows_lines_and_bar(kernel):
    assert kernel.run("alone = train(30)")[1] is None  # MPI's start in the notebook must not hinder that of the ranks
    text, error = kernel.run("model = dbp.launch(train, 30, ranks=2)")
    assert error is None
    assert "2 ranks" in text
    assert "30/30 " in text
    assert "examples/s" in text
    assert "\r" in text  # the bar is written anew
    assert "finished: 30 epochs" in text
    code = "print(type(model).__name__, model.predict(rows).shape, model.history['accuracy'][-1] > 0.9)"
    assert kernel.run(code)[0] == "TrainedModel (200, 2) True\n"
    assert kernel.run("print(alone.predict(rows).tobytes() == model.predict(rows).tobytes())")[0] == "True\n"
    ranks = "print(dbp.launch(lambda a, b: (a + b, world().rank, world().size), 3, 4, ranks=3))"
    assert kernel.run(ranks) == ("(7, 0, 3)\n", None)


def test_a_notebook_that_is_run_whole_keeps_the_lines(tmp_path):
    launcher()  # else the test is skipped
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [BEGINNING, "model = dbp.launch(train, 20, ranks=2)\nmodel", "model.predict_proba(rows)[:1].sum()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    where = {"metadata": {"path": str(tmp_path)}}
    again_if_it_dies(lambda: client.NotebookClient(notebook, timeout=LIMIT, resources=where).execute())
    *streams, model = notebook.cells[1].outputs
    lines = "".join(stream.text for stream in streams)
    assert "finished: 20 epochs" in lines
    assert len(lines) < 100 * 120  # some pictures of the bar, not hundreds
    assert model.data["text/plain"].startswith("<dbp.TrainedModel\n  double, dense: 10 weights in float32")
    assert float(re.findall(r"[\d.]+", notebook.cells[2].outputs[0].data["text/plain"])[-1]) == pytest.approx(1)


def test_what_a_rank_raises_is_raised_with_its_traceback(kernel):
    code = """
def broken():
    if world().rank == 1:
        return {}["missing"]
    world().barrier()

try:
    dbp.launch(broken, ranks=2)
except KeyError as error:
    text = str(error.__cause__)
    print("caught", error, "|", "rank 1 of 2" in text, 'return {}["missing"]' in text, text.count("File"))
"""
    text, error = kernel.run(code)
    assert error is None
    assert "dbp: error: rank 1 of 2 on" in text
    assert text.endswith("caught 'missing' | True True 1\n")
    name, message, _ = kernel.run("dbp.launch(train, -1, ranks=2)")[1]
    assert (name, message) == ("UserError", "epochs must be at least 0, but is -1")


def test_an_interrupt_saves_and_the_same_call_goes_on(kernel, tmp_path):
    kernel.text = ""
    cell = kernel.begin(f"dbp.launch(train, 1000000, {str(tmp_path / 'run')!r}, ranks=2)")
    assert kernel.wait(cell, until="3/1000000 ") is None
    kernel.manager.interrupt_kernel()
    name, _, _ = kernel.wait(cell)
    assert name == "Interrupted"
    assert "saved step" in kernel.text
    assert kernel.processes() == []
    assert dbp.checkpoint.files_of(tmp_path / "run")
    code = f"""
try:
    dbp.launch(train, 1000000, {str(tmp_path / "run")!r}, ranks=2)
except KeyboardInterrupt as error:
    print("so far", len(error.result.history["cost"]) >= 2, isinstance(error, dbp.Interrupted))
"""
    kernel.text = ""
    cell = kernel.begin(code)
    kernel.wait(cell, until="resumed")
    kernel.wait(cell, until="/1000000 ")
    kernel.manager.interrupt_kernel()
    assert kernel.wait(cell) is None
    assert "so far True True" in kernel.text


def test_what_cannot_be_sent_is_said(monkeypatch):
    with pytest.raises(UserError, match="takes a function, but got 3; write"):
        dbp.launch(3, ranks=2)
    with pytest.raises(UserError, match=r"cannot be sent to ranks .*make such objects in the function itself"):
        dbp.launch(print, threading.Lock(), ranks=2)
    with pytest.raises(UserError, match="ranks must be at least 1, but is 0"):
        dbp.launch(print, ranks=0)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="runs on several ranks already"):
        dbp.launch(print)


def test_nothing_runs_on_when_the_kernel_dies(tmp_path):
    found = Kernel(tmp_path)
    try:
        found.run(BEGINNING)
        cell = found.begin("dbp.launch(train, 1000000, 'run', ranks=2)")
        found.wait(cell, until="2/1000000 ")
        assert len(found.processes()) >= 3  # two ranks, and what has started them
        (folder,) = found.folders()
        assert (folder / "call").exists()
    finally:
        found.client.stop_channels()
        found.manager.shutdown_kernel(now=True)
    assert wait_until(lambda: not found.processes())
    assert not folder.exists()
    assert dbp.checkpoint.files_of(tmp_path / "run")

"""The commands that show runs: report, plot, compare."""

import os
import sys
import urllib.request

import pytest

from tests.processes import LIMIT, ProcessTree, wait_until
from tests.report.runs import write_run


def test_a_report_is_written_and_replaced_and_nothing_else_is(small_run, tmp_path, run_command):
    folder, _ = small_run
    out = tmp_path / "r.html"
    code, printed, errors = run_command("report", folder, "-o", out)
    assert (code, errors) == (0, "")
    assert printed.startswith(f"{out}: report of 1 run, ")
    text = out.read_text()
    assert "<h2>Curves</h2>" in text
    assert run_command("report", folder, "-o", out)[0] == 0
    out.write_text("my notes")
    code, _, errors = run_command("report", folder, "-o", out)
    assert code == 2
    assert (
        errors == f"dbp: error: {out} exists and is no report of dbp; choose another name with -o or pass --overwrite\n"
    )
    assert run_command("report", folder, "-o", out, "--overwrite")[0] == 0


def test_a_report_on_data_has_neurons_and_mistakes(small_run, tmp_path, run_command):
    folder, _ = small_run
    out = tmp_path / "r.html"
    code, _, errors = run_command("report", folder, "-o", out, "--data", "dbp:digits-test")
    assert (code, errors) == (0, "")
    text = out.read_text()
    assert "of 359 examples are right" in text
    assert text.count("data:image/png;base64,") > 5
    assert "<code>dense_1</code>, 16 units" in text
    assert run_command("report", folder, "-o", out, "--data", tmp_path / "none.h5")[0] == 0
    assert f"{tmp_path}/none.h5 is not shown: " in out.read_text()


def test_what_is_no_run_is_refused_in_one_line(tmp_path, run_command):
    for command in (["report"], ["plot", "-o", "x.svg"], ["compare"]):
        code, _, errors = run_command(*command, tmp_path)
        assert code == 2
        assert errors == f"dbp: error: folder {tmp_path} holds no run; give the folder of a run (out)\n"


def test_runs_are_compared_and_plotted(tmp_path, run_command):
    runs = [write_run(tmp_path / name, learning_rate=rate) for name, rate in (("a", 1e-3), ("b", 1e-2))]
    assert run_command("compare", *runs)[1].splitlines()[1].startswith("a ")
    assert run_command("compare", *runs, "--csv")[1].startswith("run,state,best_epoch,epoch,")
    assert run_command("plot", *runs, "-o", tmp_path / "x.svg")[0] == 0


@pytest.mark.slow
def test_a_report_is_watched_until_the_run_ends(small, tmp_path):
    """The run is held by a stop file that is not there yet, and ends when it comes."""
    with ProcessTree(sys.executable, "-m", "dbp", "train", small, "--set", "epochs=100000", env=os.environ) as training:
        assert wait_until((tmp_path / "run" / "status.json").exists), training.err
        words = ["report", tmp_path / "run", "-o", tmp_path / "r.html", "--watch", "--port", "0"]
        with ProcessTree(sys.executable, "-m", "dbp", *words, env=os.environ) as watching:
            assert wait_until(lambda: "Ctrl-C ends this" in watching.out), watching.err
            address = watching.out.split()[0]
            with urllib.request.urlopen(address, timeout=LIMIT) as answer:
                text = answer.read().decode()
            assert 'http-equiv="refresh"' in text
            assert "running" in text
            (tmp_path / "run" / "stop").touch()
            assert training.wait(30) == 75

            def ended():
                with urllib.request.urlopen(address, timeout=LIMIT) as answer:
                    return 'http-equiv="refresh"' not in answer.read().decode()

            assert wait_until(ended)
            assert watching.wait(30) == 0, watching.err
    assert "state stopped" in (tmp_path / "r.html").read_text()

"""The logs that runs write: all numbers of an unbroken run, and no more after it was killed and resumed."""

import csv
import json
import sys

import numpy as np
import pytest

from dbp.config.settings import Checkpoint, Log
from dbp.errors import StorageError, UserError
from dbp.listeners import End, Epoch, Start, Step
from dbp.listeners.appended_file import AppendedFile
from dbp.listeners.event_file import records, step_and_tag
from dbp.listeners.json_log import line_of
from dbp.listeners.tensorboard_log import TensorBoardLog
from tests.jobs import run as run_process
from tests.training.fit_runs import run

ALL = Log(tensorboard=True, json=True, csv=True, every=2)
# Prints all scalars in a folder, as TensorBoard reads them: for each tag, steps and values.
READER = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
found.Reload()
print(json.dumps({tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}))
"""


class Killed(BaseException):
    """Ends a run at once, as if its process had been killed."""


def killer(step):
    def kill(event):
        if isinstance(event, Step) and event.step == step:
            raise Killed

    return kill


def train(folder, events=None, **changes):
    """Train with all logs; return the events that a listener of one's own got."""
    heard = [] if events is None else events
    changes = {"checkpoint": Checkpoint(every_epochs=0, every_steps=3), "listeners": [heard.append]} | changes
    run(out=str(folder), log=ALL, **changes)
    return heard


def json_lines(folder):
    """Return the lines of a JSON log without what differs from start to start."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    timed = {"time", "seconds", "path", "folder", "settings"}
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def csv_rows(folder):
    with (folder / "steps.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def scalars(folder):
    """Return what TensorBoard's own reader finds."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed, which reads the files")
    outcome = run_process(sys.executable, "-c", READER, folder / "tensorboard")
    assert outcome.code == 0, outcome.text
    return json.loads(outcome.out)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, train(folder)


def test_each_log_has_the_numbers_of_the_events(unbroken):
    folder, events = unbroken
    steps = [event for event in events if isinstance(event, Step) and event.step % 2 == 0]
    assert [event.step for event in steps] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [row["step"] for row in csv_rows(folder)] == [event.step for event in steps]
    for name in ("cost", "accuracy", "learning_rate"):
        expected = [event.values[name] for event in steps]
        np.testing.assert_allclose([row[name] for row in csv_rows(folder)], expected, rtol=1e-9)
        assert [line[name] for line in json_lines(folder) if line["event"] == "step"] == expected
    kinds = [line["event"] for line in json_lines(folder)]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("epoch") == 4
    assert kinds.count("checkpoint") == 6  # each third step, and the last


def test_tensorboard_finds_every_value(unbroken):
    folder, events = unbroken
    found = scalars(folder)
    expected: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if isinstance(event, (Step, Epoch)) and (isinstance(event, Epoch) or event.step % 2 == 0):
            kind = type(event).__name__.lower()
            for name, value in event.values.items():
                if name not in ("epoch", "step", "evaluations", "products", "skipped"):  # the last say nothing here
                    expected.setdefault(f"{kind}/{name}", []).append((event.step, value))
    for name, value in events[-1].values.items():
        expected[f"test/{name}"] = [(16, value)]
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        np.testing.assert_allclose([v for _, v in found[tag]], [v for _, v in points], rtol=1e-6)


def test_tensorboard_has_counts_that_say_something(tmp_path):
    log, usual = TensorBoardLog(tmp_path, 1), {"evaluations": 4.0, "products": 0.0, "skipped": 0.0}
    log(Start(1, 1, 3, 4, 0, 0, 0, tmp_path, {}))
    log(Epoch(1, 4, usual | {"cost": 1.0}, is_best=True))
    log(Epoch(2, 8, {"evaluations": 9.0, "products": 3.0, "skipped": 1.0, "cost": 0.0}, is_best=True))
    log(End("finished", 2, 8, {}, ""))
    (path,) = (tmp_path / "tensorboard").iterdir()
    points = {name: path.read_bytes().count(f"epoch/{name}".encode()) for name in ("cost", *usual)}
    assert points == {"cost": 2, "evaluations": 1, "products": 1, "skipped": 1}


@pytest.mark.parametrize("step", [2, 5, 8, 11, 16])  # before a checkpoint, between two, at an end, at the end of all
def test_a_run_that_was_killed_and_resumed_has_the_logs_of_an_unbroken_one(tmp_path, unbroken, step):
    with pytest.raises(Killed):
        train(tmp_path, listeners=[killer(step)])
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "st')  # as if a power cut had left a part
    train(tmp_path)
    folder, _ = unbroken
    numbers = [line for line in json_lines(folder) if line["event"] in ("step", "epoch")]
    assert [line for line in json_lines(tmp_path) if line["event"] in ("step", "epoch")] == numbers
    assert csv_rows(tmp_path) == csv_rows(folder)
    points = {tag: v for tag, v in scalars(tmp_path).items() if tag != "epoch/seconds"}
    assert points == {tag: v for tag, v in scalars(folder).items() if tag != "epoch/seconds"}
    once = [tag for path in (tmp_path / "tensorboard").iterdir() for tag in tags_and_steps(path)]
    assert len(once) == len(set(once))  # on the disk too, for programs that purge nothing


def tags_and_steps(path):
    with path.open("rb") as file:
        return [found for _, message in records(file) if (found := step_and_tag(message))[1]]


def test_a_fresh_start_begins_the_logs_anew(tmp_path):
    train(tmp_path, epochs=2)
    theirs = tmp_path / "tensorboard" / "events.out.tfevents.1.theirs"
    theirs.write_bytes(b"not ours")
    train(tmp_path, epochs=1, fresh=True)
    assert [row["step"] for row in csv_rows(tmp_path)] == [2, 4]
    assert [line["event"] for line in json_lines(tmp_path)].count("start") == 1
    assert theirs.read_bytes() == b"not ours"
    theirs.unlink()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_disk_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    def refuse(self, _record):
        raise StorageError(f"{self.path.name} cannot be written: no space")

    monkeypatch.setattr(AppendedFile, "append", refuse)
    heard = train(tmp_path)
    assert heard[-1].outcome == "finished"


def test_numbers_that_are_not_finite_are_null_in_json():
    line = line_of(Step(1, 1, 2, 0.5, {"cost": float("nan"), "accuracy": np.float64(0.5)}))
    assert {k: v for k, v in json.loads(line).items() if k != "time"} == {
        "event": "step",
        "step": 1,
        "epoch": 1,
        "examples": 2,
        "seconds": 0.5,
        "cost": None,
        "accuracy": 0.5,
    }


def test_logs_need_a_folder():
    with pytest.raises(UserError, match=r"log\.json is written to the run's folder, but out is None; set it to one"):
        run(log=Log(json=True))

"""Traces: what all ranks do in some steps, as Perfetto reads it."""

import dataclasses
import json

import pytest

from dbp.errors import UserError
from dbp.listeners import Step, as_listeners
from dbp.parallel import OneProcess, Stage
from dbp.saving.start import Start
from dbp.text import parse_steps
from dbp.training.fit import train
from tests.jobs import digest, mpirun
from tests.training.fit_runs import BASE, run

STAGES = {"data", "forward", "backward", "sum", "update", "other"}


def events_of(folder, kind=None):
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return [event for event in events if kind in (None, event.get("cat"))]


def end(event):
    return round(event["ts"] + event["dur"], 3)


def check(folder, ranks, steps):
    """Check that each rank has each stage in each step, that stages nest in steps, and that ranks overlap."""
    spans = {rank: [e for e in events_of(folder, "steps") if e["pid"] == rank] for rank in range(ranks)}
    for rank, of_rank in spans.items():
        assert [event["name"] for event in of_rank] == [f"step {number}" for number in steps]
        stages = [e for e in events_of(folder, "stages") if e["pid"] == rank]
        for event in of_rank:
            inner = [e for e in stages if event["ts"] <= e["ts"] < end(event)]
            assert {e["name"] for e in inner} >= STAGES
            assert all(end(e) <= end(event) for e in inner)
            stages = [e for e in stages if e not in inner]
        assert stages == []
        first = spans[0]
        assert all(a["ts"] < end(b) and b["ts"] < end(a) for a, b in zip(first, of_rank, strict=True))
    assert min(event["ts"] for event in events_of(folder, "steps")) == 0


def test_a_trace_has_the_stages_of_its_steps_and_changes_no_bit(tmp_path):
    traced = run(out=str(tmp_path / "traced"), trace=(3, 6))
    run(out=str(tmp_path / "run"))
    assert traced.steps == 16
    check(tmp_path / "traced", 1, range(3, 7))
    names = {e["name"] for e in events_of(tmp_path / "traced", "stages")}
    assert {"evaluation", "checkpoint"} <= names <= {stage.label for stage in Stage}  # an epoch ends with step 4
    assert digest(tmp_path / "traced") == digest(tmp_path / "run")
    assert not (tmp_path / "run" / "trace.json").exists()


def test_a_trace_ends_with_the_run(tmp_path):
    run(out=str(tmp_path), trace=(15, 99))
    check(tmp_path, 1, [15, 16])


@pytest.mark.parametrize("steps", [(17, 20), (2, 3)])
def test_a_trace_of_steps_that_do_not_come_is_warned_of(tmp_path, steps):
    if steps[0] < 16:
        run(out=str(tmp_path), epochs=1, schedule="constant")
    run(out=str(tmp_path), schedule="constant", trace=steps)
    at = 4 if steps[0] < 16 else 0
    text = f"no trace is written of steps {steps[0]} to {steps[1]}, as the run is at step {at} of 16"
    assert text in (tmp_path / "logs" / "rank-0.log").read_text()
    assert not (tmp_path / "trace.json").exists()


def test_a_trace_needs_a_folder():
    with pytest.raises(UserError, match="trace is written to the run's folder, but out is None; set it to one"):
        run(trace=(1, 2))


def test_a_trace_that_was_cut_off_does_not_go_on_in_the_next_run(tmp_path):
    def interrupt(event):
        if isinstance(event, Step):
            raise KeyboardInterrupt

    comm, settings = OneProcess(), dataclasses.replace(BASE, out=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(settings, comm, Start(quiet=True, trace=(1, 9), listeners=as_listeners([interrupt])))
    assert comm.clock.timeline is not None
    train(settings, comm, Start(quiet=True))
    assert comm.clock.timeline is None
    assert not (tmp_path / "trace.json").exists()


def test_a_trace_is_bounded():
    assert parse_steps("1:1000") == (1, 1000)
    with pytest.raises(UserError, match="trace takes at most 1,000 steps, as all are kept in memory, but got 1,001"):
        parse_steps("1:1001")


@pytest.mark.parametrize("text", ["", "5", "0:3", "5:4", "a:b", "1:2:3", "-1:4"])
def test_what_is_no_range_of_steps(text):
    with pytest.raises(UserError, match=r"trace takes the first and the last step, such as 100:120, but got"):
        parse_steps(text)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["3", "2,1"])
def test_all_ranks_are_in_a_trace_with_buckets_and_messages_between_nodes(tmp_path, small, nodes):
    words = ("--trace", "12:14", "--set", "model.layers.1.units=2000", "--set", "epochs=1")  # two buckets
    outcome = mpirun(3, "-m", "dbp", "train", small, *words, env={"DBP_NODE_SIZES": nodes})
    assert outcome.code == 0, outcome.text
    folder = tmp_path / "run"
    check(folder, 3, range(12, 15))
    names = {e["args"]["name"].split()[1] for e in events_of(folder) if e["name"] == "process_name"}
    assert names == {"0", "1", "2"}
    for kind in ("buckets", "messages"):
        begun = [e for e in events_of(folder, kind) if e["ph"] == "b"]
        ended = {e["id"]: e["ts"] for e in events_of(folder, kind) if e["ph"] == "e"}
        assert {e["id"] for e in begun} == ended.keys()
        assert all(e["ts"] <= ended[e["id"]] for e in begun)
        assert {e["pid"] for e in begun} == (set() if nodes == "3" else {0, 1, 2})
    sent = {(e["pid"], e["args"]["to rank"]) for e in events_of(folder, "messages") if e["ph"] == "b"}
    assert all({source, target} & {2} for source, target in sent)  # between the nodes only

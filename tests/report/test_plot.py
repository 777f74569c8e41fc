"""Curves drawn by matplotlib."""

import pytest

from dbp.errors import UserError
from dbp.report.plot import plot
from dbp.report.record import RunRecord
from tests.report.runs import write_run


def test_a_plot_is_written_in_each_format(tmp_path):
    records = [RunRecord.of(write_run(tmp_path / name)) for name in ("a$_b", "second")]
    for ending, beginning in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")):
        out = tmp_path / f"x{ending}"
        assert plot(records, out) == f"{out}: cost, accuracy"
        assert out.read_bytes().startswith(beginning)
    assert plot(records, out, ["accuracy"]) == f"{out}: accuracy"


def test_bad_input_gets_one_line(tmp_path):
    record = RunRecord.of(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"a plot is written as .svg, .png, .pdf, but the name is '.*x.jpeg'"):
        plot([record], tmp_path / "x.jpeg")
    with pytest.raises(UserError, match="unknown cost or metric 'accurcy'; did you mean 'accuracy'"):
        plot([record], tmp_path / "x.svg", ["accurcy"])
    with pytest.raises(UserError, match="has no history to plot"):
        plot([RunRecord(tmp_path)], tmp_path / "x.svg")

"""Ranks that are given different settings, data or models: named before the first step."""

import os

import pytest

from dbp.parallel import OneProcess, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("version", "dbp: 0.1.0 on ranks 0, 2 (HOST), 0.0.9 on rank 1 (HOST); start the same installation"),
        ("setting", "optimizer.learning_rate: 0.01 on ranks 0, 2 (HOST), 0.02 on rank 1 (HOST); give all ranks the"),
        ("data", "train data: 100 examples "),
        ("values", "train data: 100 examples "),
        ("shape", "parameter hidden/weight: (30, 400) on ranks 0, 2 (HOST), (30, 401) on rank 1 (HOST)"),
    ],
)
def test_ranks_that_do_not_agree_are_named_before_the_first_step(start, tmp_path, way, message):
    outcome = start(way)
    assert outcome.code == 2, outcome.text
    assert outcome.err.count("dbp: error: ranks do not agree on ") == 1
    assert message.replace("HOST", os.uname().nodename) in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_facts_that_are_equal_are_not_reported():
    assert differences(OneProcess(), {"a": 1}) == {}

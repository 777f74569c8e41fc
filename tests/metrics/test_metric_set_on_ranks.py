"""Metrics of a real training are the same bits on any number of ranks."""

import json

import pytest

from tests.jobs import ROOT, mpirun, newest_checkpoint
from tests.metrics.values import same_arrays

PROGRAMS = ROOT / "tests" / "programs"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("words", [(), ("mixup",)], ids=["weighted positions", "mixup"])
def test_the_same_bits_on_any_number_of_ranks(tmp_path, words):
    found = {}
    for ranks in (1, 2, 3):
        outcome = mpirun(ranks, PROGRAMS / "metric_digests.py", tmp_path / str(ranks), *words)
        assert outcome.code == 0, outcome.text
        found[ranks] = json.loads(outcome.out.splitlines()[-1])
    assert found[1] == found[2] == found[3]
    tables = [newest_checkpoint(tmp_path / str(ranks)).tables for ranks in (1, 2, 3)]
    assert tables[0].keys() == {"validation/confusion_matrix", "epoch/class_counts"}
    assert same_arrays(tables[0], tables[1])
    assert same_arrays(tables[0], tables[2])
    assert len(found[1]["validation_auc"]) == 2

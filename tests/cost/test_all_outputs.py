"""The outputs that metrics need all at once: what memory they take, and data that is too little for them."""

import numpy as np
import pytest

from dbp import nn
from dbp.cost.all_outputs import AllOutputs
from dbp.errors import UserError
from dbp.metrics import Predictions
from dbp.parallel import OneProcess
from tests.metrics.values import fitted

OUTPUTS = np.zeros((4, 3))


def kept(kinds=("auc",)):
    rankings = fitted(list(kinds), nn.CrossEntropy(), OUTPUTS, np.zeros(4, int)).rankings
    return AllOutputs(rankings, OneProcess())


def test_more_outputs_than_memory_are_refused():
    kept().check_memory(1000, 4)
    with pytest.raises(UserError, match=r"metric 'auc', which keeps 1,000,000,000,000,000 outputs, takes [\d,]+ bytes"):
        kept().check_memory(10**15, 4)


@pytest.mark.parametrize(
    ("targets", "weights", "is_enough"),
    [
        ([0, 0, 1, 1], None, True),
        ([2, 2, 2, 2], None, False),
        ([0, 0, 1, 1], [1, 1, 0, 0], False),  # the examples of the other class do not count
    ],
)
def test_data_is_known_to_be_too_little_before_there_are_outputs(targets, weights, is_enough):
    found, weights = kept(), None if weights is None else np.array(weights, float)
    chunks = [
        Predictions(OUTPUTS[rows], np.array(targets)[rows], None if weights is None else weights[rows])
        for rows in (slice(0, 1), slice(1, 4))
    ]
    presence = found.presence(chunks)
    if is_enough:
        found.check_presence(presence, "the data")
    else:
        with pytest.raises(UserError, match="those of the data are all of one"):
            found.check_presence(presence, "the data")
    kept(["average_precision"]).check_presence(presence, "the data")

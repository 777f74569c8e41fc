"""Data and runs whose numbers do not stay finite."""

import dataclasses
import socket

import numpy as np
import pytest

from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.data import ArrayDataset, Examples
from dbp.errors import NotFiniteError
from dbp.nn import Dense
from dbp.optim import SGD
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 5)).astype(np.float32)
Y = np.tanh(X[:, :2])
HOST = socket.gethostname()


class ChangingData(ArrayDataset):
    """Data of which some rows are infinite once they are checked, like a file that another program writes to."""

    def __init__(self, inputs, targets, spoiled):
        super().__init__(inputs, targets, name="the train arrays")
        self.spoiled = spoiled

    def read(self, rows):
        examples = super().read(rows)
        if not isinstance(rows, slice):  # as in the check
            inputs = np.where(np.isin(rows, self.spoiled)[:, None], np.inf, examples.inputs)
            examples = Examples({**examples, "inputs": inputs})
        return examples


def with_row(number, value):
    changed = X.copy()
    changed[number] = value
    return changed


def words(text):
    return " ".join(text.split())


def failing(**changes):
    settings = dataclasses.replace(BASE, **changes)
    with pytest.raises(NotFiniteError) as caught:
        train(settings, OneProcess(), Start(quiet=True))
    assert caught.value.exit_code == 70
    assert all(len(line) <= 80 for line in f"dbp: error: {caught.value}".splitlines() if "/" not in line)
    return str(caught.value)


BASE = Settings(
    model=[Dense(8, "relu"), Dense(2)],
    loss="mean_squared_error",
    data=Data((X, Y)),
    optimizer=SGD(0.1),
    epochs=3,
    batch_size=4,
    shards=2,
)

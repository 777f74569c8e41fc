"""Runs of a small network in one process, for tests of training and of resuming."""

import dataclasses

from dbp import nn
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, Settings
from dbp.listeners import as_listeners
from dbp.optim import Adam, Cosine
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.small_data import X, Y

BASE = Settings(
    model=[nn.Dense(8, "tanh"), nn.Dense(3)],
    loss="cross_entropy",
    data=Data((X, Y), validation=0.2, test=(X[:20], Y[:20])),
    optimizer=Adam(1e-2),
    epochs=4,
    batch_size=14,
    schedule=Cosine(warmup_steps=3),
    shards=3,
    checkpoint=Checkpoint(every_steps=3, keep=100),
)


def run(settings=BASE, **changes):
    names = ("fresh", "overwrite", "accept", "retry", "trace")
    options = {name: changes.pop(name) for name in names if name in changes}
    options["listeners"] = as_listeners(changes.pop("listeners", ()))
    return train(dataclasses.replace(settings, **changes), OneProcess(), Start(quiet=True, **options))

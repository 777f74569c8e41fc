"""Short runs in one process."""

import dataclasses

from dbp import nn
from dbp.checkpoint import checkpoints_of, step_of
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, Settings
from dbp.optim import Adam
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.small_data import X, Y

BASE = Settings(
    model=[nn.Dense(8, "tanh"), nn.Dense(3)],
    loss="cross_entropy",
    data=Data((X, Y), validation=0.2),
    optimizer=Adam(1e-2),
    epochs=4,
    batch_size=12,
    checkpoint=Checkpoint(every_steps=1, keep=100),
)


def run(out=None, start=None, **changes):
    settings = dataclasses.replace(BASE, out=None if out is None else str(out), **changes)
    return train(settings, OneProcess(), dataclasses.replace(start or Start(), quiet=start is None))


def steps(folder):
    return [step_of(path) for path in checkpoints_of(folder).files()]

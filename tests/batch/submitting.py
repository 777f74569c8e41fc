"""Jobs that are submitted, and disturbed when their runs are under way."""

import os
import signal

from tests.batch.queues import Queue, when_under_way
from tests.jobs import dbp, launcher

RANKS = ("--ranks-per-node", "2", "--time", "1:00:00")


def submit(folder, *words, env=None):
    return dbp("submit", "c.toml", *words, cwd=folder, env=env)


def queue_of(scheduler, folder):
    return Queue(scheduler, folder, launcher())


def sends(number, run, step=20):
    """Return a function that sends the script of a job a signal once its run has saved so many steps."""

    def disturb(process):
        when_under_way(run, step)
        os.kill(process, number)

    return disturb


def kills_rank_0(run, step=20):
    def disturb(_process):
        os.kill(when_under_way(run, step)["process"], signal.SIGKILL)

    return disturb

"""Steps of a vector in which ranks are killed and the others continue: steps_with_deaths.py OUT KILL[,KILL ...].

Each KILL is STAGE:STEP:RANK, by the rank's number at the start. The program steps a vector by sums over all shards, as
optimizers do, and keeps a copy of each step; who outlives others goes back to it. Rank 0 writes the last vector to OUT.

Started by tests/parallel/ranks/test_mpi_survival.py.
"""

import os
import signal
import sys
import threading
import time

import numpy as np

from dbp.parallel import Arena, Layout, RankLostError, Shards, survivors, vector_sum_for, watched, world
from dbp.random import generator

SIZE, SHARDS, STEPS = 300_007, 5, 6
PATIENCE = 60.0  # seconds in which the living must meet, and all must come to a sum
LATE = 0.05  # seconds in which the others come to wait for a rank

first = world().rank
kills = [(stage, int(step), int(rank)) for stage, step, rank in (word.split(":") for word in sys.argv[2].split(","))]


def die(stage, step):
    """Kill this rank if it is to die in this stage of this step."""
    if (stage, step, first) in kills:
        if stage in ("waiting", "barrier"):
            time.sleep(LATE)
        os.kill(os.getpid(), signal.SIGKILL)


class Job:
    """What a run builds on its communicator, and again on that of the survivors."""

    def __init__(self, comm, values, divide):
        self.comm, self.divide = comm, divide
        self.shards = Shards(SHARDS, comm.rank, comm.size)
        self.arena = Arena(comm, Layout.flat(SIZE), np.float32, vectors=3, divide=divide)
        self.vector_sum = vector_sum_for(self.arena, self.shards, 2)
        self.weights, self.momentum = self.arena.vectors(2)
        for vector, value in zip((self.weights, self.momentum), values, strict=True):
            for part in self.arena.owned:
                vector[part] = value[part]
            self.arena.fence(vector)

    def free(self):
        self.vector_sum.free()
        self.arena.free()

    def step(self, step):
        die("before", step)
        tree = self.vector_sum.start()
        for number in self.shards.mine:
            sums = self.vector_sum.buffer()
            sums.vector[:] = generator(step, "test", number).standard_normal(SIZE, np.float32) - self.weights
            sums.scalars[:] = 1, number
            if number == self.shards.mine[-1]:
                getattr(self.vector_sum, "on_written", lambda start: None)(SIZE // 2)
                die("sum", step)
            tree.push(0, number, sums)
        die("waiting", step)
        total = self.vector_sum.total(tree, divisor=0)
        assert total.finite
        assert total.scalars.tolist() == [SHARDS, sum(range(SHARDS))]
        for number, part in enumerate(self.arena.owned):
            if number == len(self.arena.owned) - 1:
                die("update", step)
            self.momentum[part] = np.float32(0.9) * self.momentum[part] + total.vector[part]
            self.weights[part] += np.float32(0.1) * self.momentum[part]
        die("barrier", step)
        self.arena.fence(self.weights)
        self.arena.fence(self.momentum)
        self.comm.gather(self.arena.dot(self.weights, self.weights))


def meet(step):
    """Return the communicator of the survivors; some ranks may die meanwhile."""
    for stage, at, rank in kills:
        if at == step and rank == first and stage.startswith("meeting"):
            threading.Timer(float(stage.removeprefix("meeting")) / 1e3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return survivors(PATIENCE)


def newest(comm, done, values):
    """Return the last step that any rank has done, and its copy; ranks may die when only some have done a step."""
    dones = comm.gather(done)
    source = dones.index(max(dones))
    return dones[source], comm.gather(values if comm.rank == source else None)[source]


def train(comm):
    """Step until the last step is done, however often ranks die; return weights and the milliseconds of each loss."""
    values, done, job, lost_at, times = np.zeros((2, SIZE), np.float32), 0, None, 0.0, []
    while True:
        try:
            if job is None:
                done, values = newest(comm, done, values)
                job = Job(comm, values, divide="divide" in sys.argv)
            if lost_at:
                times.append(round(1e3 * (time.perf_counter() - lost_at)))
                lost_at = 0.0
            with watched(comm, PATIENCE / 2, PATIENCE):
                while done < STEPS:
                    job.step(done)
                    copy = np.stack([job.weights, job.momentum])
                    comm.survival.confirm()
                    values, done = copy, done + 1
                    comm.clock.step = done
            return job.weights.copy(), times
        except RankLostError:
            lost_at = lost_at or time.perf_counter()
            comm = meet(done)
            if job is not None:
                job.free()
            job = None


weights, times = train(world())
comm = world()
if comm.rank == 0:
    np.save(sys.argv[1], weights)
    print(
        f"ranks left: {comm.size}; losses: {len(times)}; survives: {comm.survival.enabled}; back after {times} ms",
        flush=True,
    )
comm.finalize()

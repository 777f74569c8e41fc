"""Costs and products with second derivatives of a network at some weights: digests of their bits.

Started by tests/cost/test_curvature.py.
"""

import hashlib

import numpy as np

from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.parallel import Arena, Layout, Shards, world
from dbp.parallel.vectors.arena import DIVIDED_FROM
from dbp.reading.shard import Shard

comm = world()
rng = np.random.default_rng(0)
x, y, weights = (rng.standard_normal((23, 30)).astype(np.float32), rng.integers(0, 4, 23), rng.random(23, np.float32))
INPUTS = [(x, y, weights), (x[:3], y[:3], None)]  # also less examples than shards


def digests(units, divide):
    """Return digests of what each step gives, in vectors that are whole here or dealt to the ranks."""
    model = nn.Sequential(nn.Dense(units, "tanh"), nn.Dropout(0.3), nn.Dense(4))
    initial = nn.initial_parameters(model, x, 1, "float32")
    layout, shards = Layout(initial.shapes), Shards(5, comm.rank, comm.size)
    arena = Arena(comm, layout, "float32", vectors=3, divide=divide)
    assert arena.dealt == (comm.size > 1 and layout.size >= DIVIDED_FROM)
    w, v, kept = arena.vector(), arena.vector(), arena.vector()
    objective = Objective(model, nn.CrossEntropy(), layout, comm, shards, np.dtype("float32"), {}, 1, arena)
    arena.fill(w, initial.draw)
    found = []

    def keep(given):
        for part in arena.owned:
            kept[part] = given[part]
        arena.fence(kept)
        found.append(arena.gather_vector(kept).copy())
        comm.barrier()

    for step, columns in enumerate(INPUTS):
        rows = [(n, shards.of_batch(len(columns[0]), n)) for n in shards.mine]
        batch = [Shard(n, *(None if a is None else a[r.start : r.stop] for a in columns)) for n, r in rows]
        cost = MiniBatchCost(objective, batch, step)
        for part in arena.owned:
            v[part] = np.sin(np.arange(part.start, part.stop))
        curvature = cost.curvature(w, part=0.6)
        keep(cost.value_and_gradient(w).gradient)
        keep(curvature.gauss_newton_product(v))
        keep(curvature.hessian_product(v))
        keep(curvature.squared_gradients(2))
        keep(curvature.hessian_product(curvature.gradient()))
        found.append(np.array(cost.value(w)))
        if layout.size < 1000:
            found.append(curvature.gauss_newton_matrix())
            assert len(set(comm.gather(found[-1].tobytes()))) == 1
    objective.free()
    return hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest()


for units in (8, 400):
    several = {digests(units, divide) for divide in (False, True)}
    if comm.rank == 0:
        print(units, *several)

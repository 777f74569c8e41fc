"""Sums and updates in shared memory against private memory, bit for bit, and what an arena promises."""

import numpy as np

from dbp.optim import Adam
from dbp.parallel import Arena, Reduction, Shards, SharedReduction, reduction_for, world
from dbp.parallel.arena import DIVIDED_FROM
from dbp.random import generator

comm = world()


class Problem:
    """As an objective: the gradient of a shard depends on the step, the shard and the weights alone."""

    def __init__(self, size, count, dtype, share):
        self.size, self.dtype, self.calls, self.bad = size, dtype, 0, None
        self.shards = Shards(count, comm.rank, comm.size)
        self.arena = Arena(comm, size, dtype, vectors=3, share=share)
        self.reduction = reduction_for(self.arena, self.shards, 2)

    def value_and_gradient(self, weights):
        self.arena.fence()
        self.calls += 1
        tree = self.reduction.start()
        for number in self.shards.mine:
            sums = self.reduction.buffer()
            sums.vector[:] = generator(self.calls, "test", number).standard_normal(self.size) - weights
            sums.scalars[:] = 1 + number % 3, number
            if (self.calls, number) == self.bad:
                sums.vector[-1] = np.inf
            tree.push(0, number, sums)
        total, numbers = self.reduction.total(tree, divisor=0), range(self.shards.count)
        assert total.scalars.tolist() == [sum(1 + n % 3 for n in numbers), sum(numbers)]
        return Evaluated(total, self.arena.owned)

    def free(self):
        self.reduction.free()
        self.arena.free()


class Evaluated:
    def __init__(self, total, owned):
        self.gradient, self.finite, self.owned = total.vector, total.finite, owned


def trained(problem):
    """Weights and gradients of some steps, of which one is not finite and one is evaluated twice."""
    arena, seen = problem.arena, []
    weights = arena.vector()
    arena.put(weights, np.linspace(-1, 1, problem.size).astype(problem.dtype))
    arena.settle(weights)
    state = Adam().initial_state(arena.vector)
    problem.bad = (4, problem.shards.count - 1) if problem.size else None
    for step in range(1, 7):
        evaluation = Adam(1e-2).step(problem, weights, state, step, 1.0)
        assert evaluation.finite == (problem.bad is None or problem.calls != 4)
        seen.append(evaluation.gradient.copy())
        if step == 5:
            seen.append(problem.value_and_gradient(weights).gradient.copy())
    arena.fence()
    seen += [weights.copy(), *(vector.copy() for vector in state.values())]
    arena.fence()
    problem.free()
    return seen


for size, count in ((0, 2), (5, 1), (1001, 7), (DIVIDED_FROM, 3), (100_003, 1), (70_000, 12)):
    for dtype in (np.float32, np.float64)[: 1 + (size == 1001 or size > DIVIDED_FROM)]:
        shared, private = (Problem(size, count, dtype, share) for share in (True, False))
        assert isinstance(shared.reduction, SharedReduction)
        assert isinstance(private.reduction, Reduction)
        assert shared.arena.shared == (comm.size > 1 and size >= DIVIDED_FROM)
        assert not private.arena.shared
        owned = comm.gather(shared.arena.owned)
        if shared.arena.shared:
            assert [s.start for s in owned] == [0, *(s.stop for s in owned[:-1])]
            assert owned[-1].stop == size
        else:
            assert owned == [slice(0, size)] * comm.size
        for a, b in zip(trained(shared), trained(private), strict=True):
            np.testing.assert_array_equal(a, b)

# More than there is: private memory instead, on all ranks, for vectors as for sums.
if comm.size > 1:
    assert comm.shared_memory(1 << 50) is None
    large = Arena(comm, 1 << 48, np.float64)
    assert not large.shared
    assert large.description == "a copy a rank, as there is too little shared memory"
comm.one_node = False
assert not Arena(comm, 100_000, np.float32).shared
if comm.rank == 0:
    print("as in private memory")

"""Sums and updates that ranks divide against those that each does alone, bit for bit, and what an arena promises.

Started by tests/parallel/vectors/test_arena.py.
"""

import itertools

import numpy as np

from dbp.optim import Adam, State
from dbp.parallel import Arena, GradientSum, Layout, PlainSum, Shards, world
from dbp.parallel.vectors.arena import DIVIDED_FROM
from dbp.random import generator

comm = world()
LARGE = 3e19  # whose square float32 cannot hold


class Problem:
    """An objective whose gradient of a shard depends on the step, the shard and the weights alone."""

    def __init__(self, size, count, dtype, share, divide=False):
        self.size, self.dtype, self.calls, self.bad, self.large = size, dtype, 0, None, None
        self.shards = Shards(count, comm.rank, comm.size)
        third, seventh = size // 3, size // 7  # parameters of which one has no element
        shapes = {"a": (third,), "none": (0, 3), "b": (seventh, 1), "c": (size - third - seventh,)}
        self.space = self.arena = Arena(comm, Layout(shapes), dtype, vectors=6, share=share, divide=divide)
        self.gradients = GradientSum(self.arena, self.shards, 2)
        self.vector_sum = self.gradients.vector_sum

    def value_and_gradient(self, weights, early=False):
        self.arena.fence(weights)
        self.calls += 1
        on_written = getattr(self.vector_sum, "on_written", lambda start: None)
        self.gradients.start(())
        for number in self.shards.mine:
            sums = self.gradients.buffer()
            values = generator(self.calls, "test", number).standard_normal(self.size) - weights
            if (self.calls, number) == self.bad:
                values[-1] = np.inf
            if (self.calls, number) == self.large and self.size:
                values[0] = LARGE
            if number == self.shards.mine[-1]:  # from the end to the beginning, as backward does
                for start in (2 * self.size // 3, self.size // 5, 0):
                    sums.vector[start:] = values[start:]
                    on_written(start)
            sums.vector[:] = values
            sums.scalars[:] = 1 + number % 3, number
            self.gradients.push(number, sums)
        total, numbers = self.gradients.total(early), range(self.shards.count)
        assert total.scalars.tolist() == [sum(1 + n % 3 for n in numbers), sum(numbers)]
        return Evaluated(total)

    def free(self):
        self.gradients.free()
        self.arena.free()


class Evaluated:
    def __init__(self, total):
        self.gradient, self.finite, self.arriving, self.rows = total.vector, total.finite, total.arriving, ()


def owned_of(gradient, arena):
    """Return the gradient where this rank owns it, and zeros elsewhere."""
    found = np.zeros_like(gradient)
    for part in arena.owned:
        found[part] = gradient[part]
    return found


def trained(problem):
    """Return weights and owned gradients after some steps, one of them not finite and one evaluated twice."""
    arena, seen = problem.arena, []
    weights = arena.vector()
    values = np.linspace(-1, 1, problem.size).astype(problem.dtype)
    parameters = problem.space.layout.views(values)
    arena.fill(weights, lambda name, place: np.copyto(place, parameters[name]))
    np.testing.assert_array_equal(weights, values)
    arena.synchronize(weights)
    state, nodes_exchange = State.of(Adam(), arena.vectors), arena.dealt and arena.nodes.count > 1
    problem.bad = (4, problem.shards.count - 1) if problem.size else None
    for step in range(1, 7):
        evaluation = Adam(1e-2).step(problem, weights, state, step, 1.0).evaluation
        assert evaluation.finite == (problem.bad is None or problem.calls != 4)
        if evaluation.finite:
            assert (evaluation.arriving is not None) == nodes_exchange
        seen.append(evaluation.gradient.copy())
        if step == 5:
            seen.append(problem.value_and_gradient(weights).gradient.copy())
    problem.large = (problem.calls + 1, problem.shards.count - 1)
    with np.errstate(over="ignore"):
        evaluation = problem.value_and_gradient(weights, early=True)
    assert evaluation.finite
    if problem.size and problem.dtype == np.float32:
        assert evaluation.arriving is None
    elif nodes_exchange:
        evaluation.arriving.complete()
    seen.append(evaluation.gradient.copy())
    arena.fence(weights)
    seen += steering(problem.space, weights, *state.vectors.values())
    whole = [weights.copy(), *(arena.gather_vector(vector).copy() for vector in state.vectors.values())]
    check_jobs(problem.space, weights)
    arena.fence(weights)
    if arena.comm.rank == 0:
        weights[:] = np.arange(problem.size)
    problem.space.broadcast_vector(weights)
    np.testing.assert_array_equal(weights, np.arange(problem.size, dtype=problem.dtype))
    arena.comm.barrier()
    problem.free()
    return seen, whole


def check_jobs(space, vector):
    """Check that one rank of those that see a piece of work does it, and all see the result; twice, as in steps."""
    for turn in range(2):
        ends = [0, *np.sort(generator(turn, "parts").integers(0, len(vector) + 1, 6)), len(vector)]
        parts = [slice(int(start), int(end)) for start, end in itertools.pairwise(ends)]
        space.fence(vector)
        for number in space.jobs(len(parts)):
            vector[parts[number]] = number + turn
        space.fence_jobs(vector, parts)
        for number, part in enumerate(parts):
            assert (vector[part] == number + turn).all()


def steering(space, a, b, c):
    """Return inner products and norms, which every rank must have whole."""
    found = [space.dots([a, b], [a, b, c]), space.dots([a], [c]), space.squares(b), space.dots([c, b, a], [b])]
    found.append(np.array([space.dot(b, b)]))
    arrays = [space.gather_vector(x) for x in (a, b, c)]
    if space.is_root:
        arrays = [x.astype(float) for x in arrays]
        exact = np.array([[x @ y for y in arrays] for x in arrays[:2]])
        np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=1e-2)
        sizes = [np.prod(shape, dtype=int) for shape in space.shapes.values()]
        squares = [part @ part for part in np.split(arrays[1], np.cumsum(sizes)[:-1])]
        np.testing.assert_allclose(found[2], squares, rtol=1e-5)
    rows = space.vectors(3)
    for part in space.owned:
        rows[0, part], rows[1, part], rows[2, part] = a[part], b[part], np.inf
    found.append(space.dots(rows[:2], rows[::-1][1:]))
    space.combine(np.array([-0.3, 0.7, 0.0]), rows, rows[2])
    found.append(space.dots(rows, rows[2:]))
    for part in space.owned:
        np.testing.assert_allclose(rows[2, part], 0.7 * b[part] - 0.3 * a[part], rtol=1e-4, atol=1e-5)
    space.fence(b)
    return found


def owners(arena):
    """Return how many ranks of each node own each element."""
    counts = np.zeros((comm.nodes.count if arena.shared else comm.size, arena.size), int)
    for rank, parts in enumerate(comm.gather(arena.owned)):
        node = next(n for n, run in enumerate(comm.nodes.runs) if rank in run) if arena.shared else rank
        for part in parts:
            counts[node, part] += 1
    return counts


for size, count in ((0, 2), (5, 1), (1001, 7), (DIVIDED_FROM, 3), (100_003, 1), (70_000, 12), (600_011, 3)):
    for dtype in (np.float32, np.float64)[: 1 + (size in (1001, 100_003))]:
        plain = Problem(size, count, dtype, share=False)
        assert isinstance(plain.vector_sum, PlainSum)
        assert not plain.arena.shared
        gradients, whole = trained(plain)
        for divide in (False, True)[: 1 + (comm.nodes.count > 1)]:
            problem = Problem(size, count, dtype, share=True, divide=divide)
            arena, dealt = problem.arena, comm.size > 1 and size >= DIVIDED_FROM
            assert arena.dealt == dealt
            assert arena.divided == (dealt and divide)
            assert isinstance(problem.vector_sum, PlainSum) == (not dealt and comm.nodes.count > 1)
            if dealt and not divide:
                assert (owners(arena) == 1).all()
            elif dealt:
                assert (owners(arena).sum(axis=0) == 1).all()
            found, found_whole = trained(problem)
            for a, b in zip(gradients, found, strict=True):
                if len(a) == size == len(b) and a.ndim == 1:
                    a, b = owned_of(a, arena), owned_of(b, arena)
                np.testing.assert_array_equal(a, b)
            for number, (a, b) in enumerate(zip(whole, found_whole, strict=True)):
                if number == 0 or comm.rank == 0 or not arena.divided:
                    np.testing.assert_array_equal(a, b)

# More than there is: private memory instead, on all ranks, for vectors as for sums.
if comm.size > 1:
    assert comm.node.allocate(1 << 50) is None
    comm.node.allocate = lambda length: None
    problem = Problem(100_003, 3, np.float32, share=True)
    assert not problem.arena.shared
    assert "one copy per rank" in problem.arena.description
    for a, b in zip(trained(Problem(100_003, 3, np.float32, share=False)), trained(problem), strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)
if comm.rank == 0:
    print("as in private memory")

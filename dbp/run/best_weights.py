"""The weights of the best epoch so far, kept in memory while training goes on with later ones."""

from __future__ import annotations

from collections.abc import Mapping

from dbp.nn import RunningMoments, running_arrays
from dbp.parallel import Arena
from dbp.types import Array


class BestWeights:
    """A copy of the weights for inference and of the running moments of the best epoch; its constructor is collective.

    Args:
        arena: of the weights; it has room for one vector more.
        moments: running moments as the model has them.

    Attributes:
        vector: the weights, one copy for the ranks that share memory.
        moments: the running moments, by name.
    """

    def __init__(self, arena: Arena, moments: Mapping[str, RunningMoments]):
        self._arena, self.vector = arena, arena.vector()
        self.moments = {path: found.copy() for path, found in moments.items()}

    def take(self, weights: Array, moments: Mapping[str, RunningMoments]) -> None:
        """Copy weights, each rank the parts that it owns, and running moments; collective.

        Args:
            weights: for inference, of the arena.
            moments: for inference.
        """
        with self._arena.changing:  # a rank that dies meanwhile leaves a state that counts as incomplete
            for part in self._arena.owned:
                self.vector[part] = weights[part]
            self.put_moments(running_arrays(moments))
        self._arena.fence(self.vector)

    def put_moments(self, arrays: Mapping[str, Array]) -> None:
        """Copy running moments, given by the names of their arrays."""
        for name, array in running_arrays(self.moments).items():
            array[...] = arrays[name]

"""The parameters that a run does not train: constant arrays by name, of which the ranks of a node share one copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from dbp.errors import UserError
from dbp.nn import InitialParameters, RunningMoments
from dbp.nn.name_patterns import matching_names
from dbp.parallel import Arena, Communicator, Layout
from dbp.text import shortened
from dbp.types import Array, Shape


def split_shapes(patterns: Sequence[str], initial: InitialParameters) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of the trained parameters and those of the frozen ones, by name.

    Args:
        patterns: of the names of parameters that are frozen, besides what layers never train.
        initial: the parameters of the model.

    Raises:
        UserError: a pattern matches no parameter, or together they match all.
    """
    shapes = initial.shapes
    names = initial.constants | set(matching_names("frozen", patterns, shapes))
    if patterns and len(names) == len(shapes):
        raise UserError(
            f"frozen must leave parameters to train, but {shortened(patterns)} "
            f"{'matches' if len(patterns) == 1 else 'match'} all {len(shapes)} of the model; leave out those to train"
        )
    trained = {name: shape for name, shape in shapes.items() if name not in names}
    return trained, {name: shape for name, shape in shapes.items() if name in names}


def freeze_moments(running: Mapping[str, RunningMoments], names: Collection[str], frozen: Collection[str]) -> None:
    """Mark the running moments of layers of which all parameters are frozen: they stay as they are.

    Args:
        running: the moments, by the path of their layer.
        names: of all parameters.
        frozen: names of the frozen ones.
    """
    for path, moments in running.items():
        own = [name for name in names if name.startswith(path)]
        moments.frozen = bool(own) and all(name in frozen for name in own)


class FrozenParameters:
    """The arrays of the frozen parameters; its constructor is collective.

    Args:
        comm: the ranks.
        shapes: of the frozen parameters, by name.
        dtype: of the arrays.

    Attributes:
        arena: the space of the vector that holds them.
        vector: this vector, to which nobody writes after the start of the run.
    """

    def __init__(self, comm: Communicator, shapes: Mapping[str, Shape], dtype: Any):
        self.arena = Arena(comm, Layout(shapes), dtype)
        self.vector = self.arena.vector()

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """Return the parameters by name, as read-only views."""
        return self.arena.layout.views(self.vector)

"""Second derivatives of an objective: of the loss of a shard's examples, and of the cost of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dbp.autodiff import Value
from dbp.cost.curvature import Curvature, LossCurvature
from dbp.cost.mini_batch import losses_of
from dbp.cost.objective import Objective
from dbp.nn import Mixture, RandomKey
from dbp.reading.shard import Chunks, Shard
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.cost.joint import LossFactors


def evaluation_curvature(objective: Objective, weights: Array, chunks: Chunks) -> Curvature:
    """Return the second derivatives of the cost of any number of examples, the model as in evaluation; collective.

    Args:
        objective: model and loss.
        weights: the flat weights, which must not change.
        chunks: yields the examples of a shard, by its number, in chunks; each product goes through them anew.
    """
    objective.arena.fence(weights)
    at = objective.layout.views(weights)
    loss_factors = None if objective.joint is None else objective.loss_factors(chunks)
    return curvature_of(
        objective,
        lambda number: (loss_curvature(objective, at, chunk.rows(...), None, loss_factors) for chunk in chunks(number)),
    )


def curvature_of(
    objective: Objective, examples: Callable[[int], Iterable[LossCurvature]], training: bool = False
) -> Curvature:
    """Return the second derivatives of the cost of some examples.

    Args:
        objective: model and loss.
        examples: yields the derivatives of a shard's examples, by its number, in one piece or several.
        training: whether they are those of a training pass.
    """
    allreduce = objective.allreduce if training else None
    return Curvature(examples, objective.arena, objective.shards, objective.gradients.vector_sum, allreduce)


def loss_curvature(
    objective: Objective,
    at: Mapping[str, Array],
    shard: Shard,
    draw: RandomKey | None = None,
    loss_factors: LossFactors | None = None,
) -> LossCurvature:
    """Return the derivatives of a shard's loss sum.

    Args:
        objective: model and loss.
        at: the parameters.
        shard: the examples.
        draw: random numbers of a training pass; None for the model as in evaluation.
        loss_factors: of several targets, see loss_factors(); None for one target.
    """
    mixtures: list[Mixture | None] = [None]  # that of the last call, the same in each as its draws are

    def outputs(parameters: Mapping[str, Value]) -> Any:
        call = objective.call(parameters, shard, draw)
        found = objective.outputs(call, shard)
        mixtures[0] = call.mixture
        return found

    if objective.joint is not None:
        assert loss_factors is not None
        both = lambda given: (outputs(given), mixtures[0])  # noqa: E731
        return objective.joint.curvature(both, at, shard, draw or (0, 0, 0), loss_factors)

    return LossCurvature(
        outputs=outputs,
        losses=lambda outputs: losses_of(objective.loss, outputs, shard, mixtures[0]),
        example_weights=shard.example_weights,
        at=at,
        count=shard.count,
        draw=draw or (0, 0, 0),
    )

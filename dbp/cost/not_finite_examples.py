"""The search for the examples of a data set whose loss is not finite, once the cost over all of them is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from dbp.autodiff import array_of
from dbp.cost.mini_batch import example_losses
from dbp.cost.objective import Objective
from dbp.data import Dataset
from dbp.named_arrays import all_finite, as_dict, each
from dbp.nn import Call, RunningMoments
from dbp.parallel import Stage
from dbp.reading.loader import Loader
from dbp.reading.shard import Chunks, Shard
from dbp.reading.subset import Subset
from dbp.types import Array, Arrays


class NotFiniteExamples(NamedTuple):
    """The examples whose loss is not finite.

    Args:
        row: of the first of them in the data set.
        why: the reason for its loss, in words.
        total: how many there are.
    """

    row: int
    why: str
    total: int


def describe_not_finite(
    objective: Objective,
    weights: Array,
    loader: Loader,
    running: Mapping[str, RunningMoments] | None = None,
    chunks: Chunks | None = None,
) -> str:
    """Return in words which examples have a loss that is not finite; collective, the same on every rank.

    Args:
        objective: the cost.
        weights: the flat weights.
        loader: of the examples.
        running: running moments in place of the model's own, by path, as in the evaluation that found the cost.
        chunks: yields the examples of a shard, by its number, in chunks; by default all that the loader does.
    """
    objective.arena.comm.clock.enter(Stage.EVALUATION)
    call = partial(objective.call, objective.layout.views(weights), draw=None, running=running)
    with np.errstate(all="ignore"):
        mine = [
            _in_shard(objective, call, (chunks or loader.chunks)(number), loader.span(number).start)
            for number in objective.shards.mine
        ]
    found = [one for of_rank in objective.arena.comm.gather(mine) for one in of_rank if one is not None]
    data = loader.data
    if not found:
        return f"no example of {data.name} alone has a loss that is not finite"
    first, count = min(found), sum(one.total for one in found)
    more = f"; {count:,} of {len(data):,} examples have such a loss" if count > 1 else ""
    return f"example {_stored_row(data, first.row)} of {data.name}: {first.why}{more}"


def _in_shard(
    objective: Objective, call: Callable[..., Call], chunks: Iterable[Shard], row: int
) -> NotFiniteExamples | None:
    """Return what is not finite in some examples, of which the first is this row; None if all is finite."""
    count = 0
    first: tuple[int, str] | None = None
    for chunk in chunks:
        outputs, losses = objective.forward(call(shard=chunk), chunk)
        wrong = np.flatnonzero(~finite_rows(array_of(example_losses(losses))))
        if len(wrong) and first is None:
            one = wrong[:1]
            first = (
                row + int(one[0]),
                why_not_finite(each(itemgetter(one), chunk.inputs), each(itemgetter(one), each(array_of, outputs))),
            )
        count += len(wrong)
        row += chunk.count
    return None if first is None else NotFiniteExamples(*first, count)


def finite_rows(values: Array) -> Array:
    """Return for each row whether all its numbers are finite."""
    if all_finite(values):
        return np.ones(len(values), np.bool_)
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def why_not_finite(inputs: Arrays, outputs: Arrays) -> str:
    """Return the reason for a loss that is not finite, in words.

    Args:
        inputs: the model's inputs of the example, one or several by name.
        outputs: the model's outputs for it, likewise.
    """
    named = as_dict(inputs)
    for name, array in named.items():
        if not np.isfinite(array).all():
            return f"its inputs{name and f' {name}'} contain {array[~np.isfinite(array)][0]} as {array.dtype}"
    ranges = [f"{name and f'{name} '}from {array.min():.3g} to {array.max():.3g}" for name, array in named.items()]
    given = f"with inputs {', '.join(ranges)}"
    for name, array in as_dict(outputs).items():
        if not np.isfinite(array).all():
            which = f"the model's output {name}" if name else "the model's outputs"
            return f"{which} for it contain{'s' * bool(name)} {array[~np.isfinite(array)][0]}, {given}"
    return f"its loss is not finite, {given}"


def _stored_row(data: Dataset, row: int) -> int:
    """Return the row of the whole data set that an example of a part of it comes from."""
    return int(data.rows_of_whole(np.array([row]))[0]) if isinstance(data, Subset) else row

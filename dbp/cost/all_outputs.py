"""The metrics that need all outputs of a data set, such as the area under the ROC curve, over all ranks.

Each rank keeps the probabilities of its own examples and sorts them; rank 0 merges the sorted parts of one class after
the other, so it holds one column of the outputs more than its own part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dbp.files import check_fits_memory
from dbp.metrics.predictions import Predictions
from dbp.metrics.rankings import FittedRanking, Scores
from dbp.parallel import Communicator, agree, from_rank_0, gather_on_rank_0
from dbp.types import Array

BYTES_BESIDE = 9  # a weight and a hit for each probability
NO_WEIGHTS = np.empty(0)
COPIES = 2  # of all, while chunks are joined


class AllOutputs:
    """The probabilities of all examples of a data set on this rank.

    Args:
        rankings: the metrics that need them, at least one, all of the same targets.
        comm: the ranks.
    """

    def __init__(self, rankings: Sequence[Any], comm: Communicator):
        self._rankings: tuple[FittedRanking, ...] = tuple(rankings)
        self._comm = comm
        self._parts: list[tuple[Array, Array, Array]] = []

    def check_memory(self, outputs: int, itemsize: int) -> None:
        """Raise UserError if the outputs of a data set do not fit in this machine's memory; collective.

        Args:
            outputs: their number, over all examples and positions.
            itemsize: of each, in bytes.
        """
        name = next(iter(self._rankings[0].columns))
        what = f"metric {name!r}, which keeps {outputs:,} outputs,"
        agree(self._comm, check_fits_memory, COPIES * outputs * (itemsize + BYTES_BESIDE), what)

    def presence(self, targets: Iterable[Predictions]) -> Array | None:
        """Return where a class has hits, and where it has other examples, (2, classes); None for no examples.

        Args:
            targets: any outputs beside the targets of some examples.
        """
        found: Array | None = None
        for predictions in targets:
            _, hits, weights = self._rankings[0].scores(predictions)
            counts = weights > 0 if len(weights) else np.ones_like(hits)
            here = np.stack([(hits & counts).any(axis=0), (~hits & counts).any(axis=0)])
            found = here if found is None else found | here
        return found

    def check_presence(self, mine: Array | None, data: str) -> None:
        """Raise UserError if a metric can have no value for any class, whatever the outputs; collective.

        Args:
            mine: presence() of this rank's examples.
            data: the name of the data, for messages.
        """
        known = [found for found in self._comm.gather(mine) if found is not None]
        of_classes = np.any(known, axis=0).T if known else []
        scores = [np.array([True, False])[pair] for pair in of_classes]
        for ranking in self._rankings:
            values = [ranking.score(Scores(np.zeros(len(hits)), hits, NO_WEIGHTS)) for hits in scores]
            agree(self._comm, ranking.values, values, data)

    def add(self, found: Predictions) -> None:
        """Keep what the metrics need of some examples."""
        self._parts.append(self._rankings[0].scores(found))

    def values(self, data: str) -> dict[str, float]:
        """Return the values of all metrics by column; collective.

        Args:
            data: the name of the data, for messages.

        Raises:
            UserError: a metric needs other examples than the data has.
        """
        parts = [np.concatenate(columns) for columns in zip(*self._parts, strict=True)] if self._parts else []
        width = max(self._comm.gather(parts[0].shape[1] if parts else 0))
        found: list[list[float | None]] = [[] for _ in self._rankings]
        for number in range(width):
            merged = self._merged(self._column(parts, number))
            for values, ranking in zip(found, self._rankings, strict=True):
                values += [] if merged is None else [ranking.value(merged)]
        return from_rank_0(self._comm, self._by_column, found, data)

    def _by_column(self, found: Sequence[Sequence[float | None]], data: str) -> dict[str, float]:
        pairs = zip(self._rankings, found, strict=True)
        return {name: value for one, values in pairs for name, value in one.values(values, data).items()}

    def _column(self, parts: Sequence[Array], number: int) -> Scores:
        """Return the sorted scores of this rank's examples for one class."""
        if not parts:
            return Scores(np.empty(0), np.empty(0, np.bool_), NO_WEIGHTS)
        scores, hits, weights = (array[:, number] for array in parts)
        counts = weights > 0 if len(weights) else slice(None)
        return Scores.sorted(scores[counts], hits[counts], weights[counts])

    def _merged(self, mine: Scores) -> Scores | None:
        """Return the sorted scores of all ranks on rank 0; None elsewhere; collective."""
        columns = [gather_on_rank_0(self._comm, np.ascontiguousarray(column)) for column in mine]
        if self._comm.rank != 0:
            return None
        return Scores.merged([Scores(*of_rank) for of_rank in zip(*columns, strict=True) if len(of_rank[0])] or [mine])


class AllOutputsOfTargets:
    """The probabilities of all examples for several targets.

    Args:
        kept: those of each target that has metrics which need them, by its name.
    """

    def __init__(self, kept: Mapping[str, AllOutputs]):
        self._kept = kept

    def add(self, found: Mapping[str, Predictions]) -> None:
        """Keep what the metrics need of some examples."""
        for name, one in self._kept.items():
            one.add(found[name])

    def values(self, data: str) -> dict[str, float]:
        """Return the values of all metrics by column, whose names end with that of the target; collective."""
        found = {name: one.values(data) for name, one in self._kept.items()}
        return {f"{column}_{name}": value for name, values in found.items() for column, value in values.items()}

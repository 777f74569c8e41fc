"""The history of a run, thinned so that a curve of a million epochs takes little memory and keeps its peaks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dbp.metrics.metric_set import VALIDATION
from dbp.text import COUNTS
from dbp.types import Array

MOST_POINTS = 600  # of a curve
MOST_COLUMNS = 400


class Series(NamedTuple):
    """A column of the history, thinned.

    Args:
        epochs: numbers of the epochs, counted from 1.
        values: the numbers after them.
    """

    epochs: Array
    values: Array


@dataclass(frozen=True)
class History:
    """The columns of a history.

    Args:
        epochs: how many rows it has.
        series: its columns by name.
        last: the last row.
        best: the row of the best epoch; empty if it is not known.
    """

    epochs: int
    series: dict[str, Series]
    last: dict[str, float]
    best: dict[str, float]

    @classmethod
    def of(cls, names: Sequence[str], column: Callable[[str], Array], best_epoch: int) -> History:
        """Return the history of some columns, each of which is read when its turn comes.

        Args:
            names: of the columns.
            column: returns the numbers of one.
            best_epoch: the best epoch, counted from 1; 0 if there is none.
        """
        epochs, series, last, best = 0, {}, {}, {}
        for name in names[:MOST_COLUMNS]:
            values = np.asarray(column(name), np.float64)
            epochs = max(epochs, len(values))
            kept = kept_rows(values)
            series[name] = Series(kept + 1, values[kept])
            if len(values):
                last[name] = float(values[-1])
            if 0 < best_epoch <= len(values):
                best[name] = float(values[best_epoch - 1])
        return cls(epochs, series, last, best)

    @property
    def figures(self) -> list[str]:
        """Return the names of the costs and metrics, without that of the validation data."""
        names = (name.removeprefix(VALIDATION) for name in self.series if name not in COUNTS)
        return sorted(dict.fromkeys(names), key=lambda name: name != "cost")

    @property
    def families(self) -> dict[str, list[str]]:
        """Return the costs and metrics of all classes or outputs together, each with the names of those of one.

        The columns of one begin with the name of the metric of all, as in f1 and f1_cat.
        """
        found: dict[str, list[str]] = {}
        names = self.figures
        for name in sorted(names, key=len):
            base = max((other for other in found if name.startswith(f"{other}_")), key=len, default=None)
            found.setdefault(base or name, []).extend([name] if base else [])
        return {name: found[name] for name in names if name in found}


def kept_rows(values: Array, most: int = MOST_POINTS) -> Array:
    """Return the rows of a column that are drawn: all, or the least and the greatest value of each of many pieces.

    The first and the last row are among them.
    """
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)
    kept = {0, len(values) - 1}
    for start, stop in itertools.pairwise(edges.tolist()):
        piece = values[start:stop]
        finite = np.flatnonzero(np.isfinite(piece))
        if len(finite):
            kept |= {start + int(finite[find(piece[finite])]) for find in (np.argmin, np.argmax)}
        else:
            kept.add(int(start))
    return np.array(sorted(kept))

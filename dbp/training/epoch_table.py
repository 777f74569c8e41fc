"""The table of epochs that a run prints: a head once, then an aligned line for each epoch, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbp.metrics.metric_set import VALIDATION
from dbp.text import COUNTS, duration, figure

WIDTH, MAX_WIDTH = 80, 120  # columns where no terminal says how many it has; columns that are used at most
NUMBER_WIDTH, NAME_WIDTH = 9, 20  # the least width of a column, and the most
RATE_WIDTH, LEFT_WIDTH = 10, 11
BEST = "*"  # in front of the best epoch so far
GAP = "  "


class EpochTable:
    """The lines of the epochs, whose columns are chosen by the first row of the history.

    Args:
        epochs: of the run.
        names: the columns of a row of the history.
        best_by: the column that decides which epoch is the best, which is always shown.
        width: columns of the terminal.
    """

    def __init__(self, epochs: int, names: Sequence[str], best_by: str, width: int = WIDTH):
        self._epochs, self._epoch_width = epochs, max(5, 2 * len(str(epochs)) + 1)
        figures = [name for name in names if name not in COUNTS]
        room = min(width, MAX_WIDTH) - len(BEST) - self._epoch_width - RATE_WIDTH - LEFT_WIDTH - 2 * len(GAP)
        chosen = _chosen(figures, best_by, room)
        self.shown = [name for name in figures if name in chosen]
        self.hidden = [name for name in figures if name not in chosen]

    def head(self) -> list[str]:
        """Return the two lines above the rows: what the columns are of, and their names."""
        groups = [
            [n for n in self.shown if n.startswith(VALIDATION) == is_validation] for is_validation in (False, True)
        ]
        titles = [
            f" {title} ".center(sum(_width(name) for name in names) - len(GAP), "-")
            for title, names in zip(("training", "validation"), groups, strict=True)
            if names
        ]
        names = [_shortened(name).rjust(_width(name) - len(GAP)) for name in self.shown]
        above = f"{BEST} best".ljust(len(BEST) + self._epoch_width)
        below = "epoch".rjust(len(BEST) + self._epoch_width)
        right = ["examples/s".rjust(RATE_WIDTH), "left".rjust(LEFT_WIDTH)]
        return [GAP.join([above, *titles]), GAP.join([below, *names, *right])]

    def row(self, values: Mapping[str, float], is_best: bool, rate: float, left: float | None) -> str:
        """Return the line of an epoch.

        Args:
            values: its row of the history.
            is_best: whether it is the best so far.
            rate: examples per second.
            left: seconds until the end of the run; None where nothing is left.
        """
        mark = BEST if is_best else " "
        epoch = f"{values['epoch']:.0f}/{self._epochs}".rjust(self._epoch_width)
        figures = [figure(values[name]).rjust(_width(name) - len(GAP)) for name in self.shown]
        time = "" if left is None else duration(left)
        return GAP.join([mark + epoch, *figures, f"{rate:,.0f}".rjust(RATE_WIDTH), time.rjust(LEFT_WIDTH)]).rstrip()


def _chosen(names: Sequence[str], best_by: str, room: int) -> set[str]:
    """Return the names of the columns that fit into the room, and the one that decides which epoch is the best.

    Costs come before metrics, metrics of validation data before those of training data, and the metrics of all
    classes or outputs together before those of a single one, such as f1 before f1_cat.
    """
    first = (best_by, f"{VALIDATION}cost", "cost")
    metrics = sorted(
        (name for name in names if name not in first),
        key=lambda name: (_is_of_one(name, names), not name.startswith(VALIDATION)),
    )
    chosen: set[str] = set()
    for name in dict.fromkeys([*(name for name in first if name in names), *metrics]):
        if _width(name) <= room or not chosen:
            chosen.add(name)
            room -= _width(name)
    return chosen


def _is_of_one(name: str, names: Sequence[str]) -> bool:
    """Return True if a column is the part of another one that is of a single class or output."""
    return any(name[:end] in names for end, letter in enumerate(name) if letter == "_")


def _shortened(name: str) -> str:
    """Return the name of a column in words, cut off where it is long."""
    words = name.removeprefix(VALIDATION).replace("_", " ")
    return words if len(words) <= NAME_WIDTH else f"{words[: NAME_WIDTH - 2]}.."


def _width(name: str) -> int:
    """Return the columns that a name and its numbers take, with the gap beside them."""
    return max(NUMBER_WIDTH, len(_shortened(name))) + len(GAP)

"""The choice of the parameters whose gradients are computed by rows: sparse ones, and large tables of few used rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dbp.config.settings import Settings
from dbp.nn import RowUses
from dbp.types import Shape

LEAST_ELEMENTS = 1 << 18  # of a table, below which passes over its gradient take less time than exchanging rows
LEAST_RATIO = 4  # of a table's rows to those that a mini-batch looks up


def tables_of(
    settings: Settings, shapes: Mapping[str, Shape], uses: Mapping[str, RowUses], examples: int
) -> tuple[list[str], list[str]]:
    """Return the names of the tables, and of the sparse ones among them.

    The choice has an influence on the order of sums, so it does not depend on the ranks.

    Args:
        settings: of the run.
        shapes: of the trained parameters, by name.
        uses: of those of which the model uses some rows alone.
        examples: of a mini-batch.
    """
    sparse = [name for name in shapes if name in uses and uses[name].sparse]
    if not settings.optimizer.is_elementwise:
        return sparse, sparse
    large = [name for name, shape in shapes.items() if name in uses and math.prod(shape) >= LEAST_ELEMENTS]
    large = [name for name in large if shapes[name][0] >= LEAST_RATIO * uses[name].rows * examples]
    return sparse + [name for name in large if name not in sparse], sparse

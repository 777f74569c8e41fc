"""The check of a run's data: all of it at the start, or, if that would take long, rows as they are first read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dbp.data import Dataset, Examples, RowCheck, identity_of, is_checked_at_start
from dbp.parallel import Communicator, from_rank_0
from dbp.run.sources import Sources, check_together

CheckOfPurpose = Callable[[str, Examples, int], None]  # see CheckExamples


class DataCheck:
    """The check of the data of a run by this process.

    Args:
        sources: the data.
        dtype: the precision of the run.
        check_examples: raises UserError for examples that do not fit model or loss; the first argument is the
            purpose of their data set, such as "train".
        steps: of an epoch.
    """

    def __init__(self, sources: Sources, dtype: np.dtype[Any], check_examples: CheckOfPurpose, steps: int):
        large = {purpose: data for purpose, data in sources.files.items() if not is_checked_at_start(data)}
        self._checks = {
            purpose: RowCheck(data, dtype, partial(check_examples, purpose)) for purpose, data in large.items()
        }
        if "train" in self._checks and sources.validation is not None and "validation" not in sources.files:
            self._checks["validation"] = self._checks["train"]  # a part of the same file
        self._sources, self._dtype, self._check_examples = sources, dtype, check_examples
        self._steps, self._last = steps, None if "train" in self._checks else 0

    def at_start(self, comm: Communicator, purpose: str, data: Dataset) -> str:
        """Return the digest of a data set, all of whose rows are checked now unless it is large; collective.

        Args:
            comm: the ranks.
            purpose: such as "train".
            data: the data set, as the run reads it.
        """
        if purpose in self._checks:
            return from_rank_0(comm, identity_of, self._sources.files[purpose])
        return check_together(comm, data, self._dtype, partial(self._check_examples, purpose))

    def of_step(self, step: int) -> RowCheck | None:
        """Return the check of the rows of a step, counted from 0; None if a whole epoch has been read before it."""
        if self._last is None:  # that of the first epoch that is read from its beginning
            self._last = (-(-step // self._steps) + 1) * self._steps
        return self._checks["train"] if step < self._last else None

    def of_evaluation(self, purpose: str) -> RowCheck | None:
        """Return the check of the rows of an evaluation; None if they have all been read."""
        return self._checks.get(purpose)

    def after_evaluation(self, purpose: str) -> None:
        """Note that all rows of an evaluation have been read."""
        self._checks.pop(purpose, None)

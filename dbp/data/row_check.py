"""Checks of examples as they are first read, for data that is too large to be checked before."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.data.check import CheckExamples, broken_rule, check_rows
from dbp.data.dataset import Dataset, Examples, pieces_of, scalings_of
from dbp.errors import UserError
from dbp.types import Array


class RowCheck:
    """The rules of check_blocks() for single rows of a data set, whatever rows are read together.

    Args:
        data: the data set.
        dtype: the precision of the run.
        check_examples: raises UserError for examples that do not fit model or loss.
    """

    def __init__(self, data: Dataset, dtype: np.dtype[Any], check_examples: CheckExamples):
        self._data, self._dtype, self._check_examples = data, dtype, check_examples
        self._scalings = scalings_of(data)

    def __call__(self, examples: Examples, rows: Array) -> None:
        """Raise DataError, naming the file and the row, if an example breaks a rule.

        Args:
            examples: as they are stored, without placeholders.
            rows: their numbers in the data set.
        """
        if not len(rows):
            return
        try:
            self._check(examples, 0)
        except UserError as error:
            self._find(examples, rows)
            raise broken_rule(self._data.name, error) from None

    def _check(self, examples: Examples, first: int) -> None:
        check_rows(examples, self._scalings, self._dtype, self._check_examples, first)

    def _find(self, examples: Examples, rows: Array) -> None:
        """Raise DataError for the first example that breaks a rule."""
        for index, row in enumerate(rows.tolist()):
            one = Examples({name: values[index : index + 1] for name, values in examples.items()})
            for file, first, _ in pieces_of(self._data, range(row, row + 1)):
                try:
                    self._check(one, first)
                except UserError as error:
                    raise broken_rule(file, error) from None

"""The data of a run as its trained model keeps them: by name, without the arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dbp.config.data import PARTS, Data
from dbp.data import Dataset, Examples, Numbers, Rows
from dbp.errors import UserError


class NamedData:
    """A data set of which a trained model keeps the name alone, so that it does not hold the arrays."""

    scale: Numbers | None = None

    def __init__(self, data: Dataset):
        self.name, self.input_shape, self._rows = data.name, data.input_shape, len(data)

    def __len__(self) -> int:
        return self._rows

    def read(self, rows: Rows) -> Examples:  # noqa: ARG002
        """Raise UserError: the rows are not kept."""
        raise UserError(f"{self.name} are not kept with the trained model; give the data again")


def without_arrays(data: Data) -> Data:
    """Return the settings of data with names in place of data sets."""
    sources = {part: getattr(data, part) for part in PARTS}
    named: dict[str, Any] = {part: NamedData(kept) for part, kept in sources.items() if isinstance(kept, Dataset)}
    return replace(data, **named)

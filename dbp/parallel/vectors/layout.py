"""Where each parameter lies in the flat vector of all, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from dbp.types import Array


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in a flat vector."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, parameters: Mapping[str, Array]) -> Layout:
        """The layout of these parameters, in their order."""
        return cls({name: array.shape for name, array in parameters.items()})

    @property
    def size(self) -> int:
        """The length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def ends(self) -> list[int]:
        """Where each parameter ends."""
        return list(accumulate(math.prod(shape) for shape in self.shapes.values()))

    def views(self, vector: Array, writable: bool = False) -> dict[str, Array]:
        """The parameters by name, as views of the vector; read-only unless asked otherwise."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            view = vector[start:end].reshape(shape)
            view.flags.writeable = writable
            views[name] = view
            start = end
        return views

    def flatten(self, parameters: Mapping[str, Array], dtype: Any) -> Array:
        """A new vector that holds these parameters."""
        vector = np.empty(self.size, dtype)
        for name, view in self.views(vector, writable=True).items():
            view[...] = parameters[name]
        return vector

"""The layout of all parameters in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from dbp.types import Array


@dataclass(frozen=True)
class Layout:
    """The place of each parameter in a flat vector.

    Args:
        shapes: of the parameters, by name, in their order in the vector.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, parameters: Mapping[str, Array]) -> Layout:
        """Return the layout of these parameters, in their order."""
        return cls({name: array.shape for name, array in parameters.items()})

    @classmethod
    def flat(cls, size: int) -> Layout:
        """Return the layout of one parameter of that many elements."""
        return cls({"all": (size,)})

    @cached_property
    def size(self) -> int:
        """Return the length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def ends(self) -> list[int]:
        """Return where each parameter ends."""
        return list(accumulate(math.prod(shape) for shape in self.shapes.values()))

    def views(self, vector: Array, writable: bool = False) -> dict[str, Array]:
        """Return the parameters by name, as views of the vector; read-only by default."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            view = vector[start:end].reshape(shape)
            view.flags.writeable = writable
            views[name] = view
            start = end
        return views

    def flatten(self, parameters: Mapping[str, Array], dtype: Any) -> Array:
        """Return a new vector that holds these parameters."""
        vector = np.empty(self.size, dtype)
        for name, view in self.views(vector, writable=True).items():
            view[...] = parameters[name]
        return vector

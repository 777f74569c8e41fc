"""The types that all parts share."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
# Of a data set with one column of a kind, an array or a shape; of one that names several, a mapping from their names.
# No union, as all code for single columns would have to tell both apart before mypy accepts it.
Arrays = Any
Shapes = Any

"""The line of the user's code at which an error arose."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np

# The beginnings of NumPy's messages about shapes that do not fit.
SHAPE_MESSAGES = (
    "operands could not be broadcast",
    "matmul: ",
    "shapes (",
    "could not broadcast",
    "cannot reshape array",
)
DBP_FOLDER, NUMPY_FOLDER = Path(__file__).parents[1], Path(np.__file__).parent


def user_line(error: Exception) -> tuple[str, bool]:
    """Return the last line of the user's code in a traceback, and whether only NumPy's frames follow it.

    It is empty if no line is the user's.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if NUMPY_FOLDER not in Path(f.filename).parents]
    own = [f for f in frames if DBP_FOLDER not in Path(f.filename).parents]
    if not own:
        return "", False
    return f"in {own[-1].name} (line {own[-1].lineno} of {Path(own[-1].filename).name})", own[-1] is frames[-1]

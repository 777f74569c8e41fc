"""What a file was made with, and when."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import numpy as np

import dbp


def versions() -> dict[str, str]:
    """What may decide a result besides settings and data."""
    return {"dbp": dbp.__version__, "python": platform.python_version(), "numpy": np.__version__}


def now() -> str:
    """The time, as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")

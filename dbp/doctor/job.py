"""The batch job that this is part of, if it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from dbp.doctor.findings import GOOD, Finding
from dbp.parallel import JOB_NUMBERS


def job_findings(told: dict[str, Any]) -> Iterator[Finding]:
    """The scheduler and what it gives; on every rank the same, as rank 0 tells it."""
    name = next((name for name in JOB_NUMBERS if name in os.environ), None)
    told["job"] = None if name is None else os.environ[name]
    if name is None:
        yield Finding("batch job", GOOD, "none")
    else:
        yield Finding("batch job", GOOD, f"{os.environ[name]} ({name})")

"""Fixtures of many tests."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.jobs import SMALL

pytest_plugins = ["tests.time_limits"]


def pytest_collection_modifyitems(items):
    """Sort files by their number of slow tests, so that of two workers none begins a long file at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def mpich_python() -> str:
    """Return the Python of an environment with dbp and MPICH; skip the test if there is none."""
    python = os.environ.get("DBP_TEST_MPICH_PYTHON")
    if not python:
        pytest.skip("DBP_TEST_MPICH_PYTHON names no Python of an environment with dbp and MPICH")
    return python


@pytest.fixture
def small(tmp_path) -> Path:
    """Write a config that trains on the digits within seconds, into the folder `run` beside it."""
    path = tmp_path / "small.toml"
    path.write_text(f'out = "{tmp_path}/run"\n{SMALL}')
    return path

"""What a job has left in shared memory is told from what another job uses."""

import os
import tempfile
from pathlib import Path

from tests import shared_memory
from tests.processes import ProcessTree


def test_a_folder_of_a_job_that_still_runs_is_not_left(monkeypatch):
    monkeypatch.setattr(shared_memory, "GONE_SECONDS", 0.1)
    before = shared_memory.shared_memory()
    with tempfile.TemporaryDirectory(prefix="dbp-test-", dir="/dev/shm") as folder:
        (Path(folder) / "segment").touch()
        with ProcessTree("sleep", "60", env=os.environ | {"SEGMENTS": folder}):
            assert Path(folder).name not in shared_memory.left_in_shared_memory(before)
        assert Path(folder).name in shared_memory.left_in_shared_memory(before)


def test_an_empty_folder_is_not_left(monkeypatch):
    monkeypatch.setattr(shared_memory, "GONE_SECONDS", 0.1)
    before = shared_memory.shared_memory()
    with tempfile.TemporaryDirectory(prefix="dbp-test-", dir="/dev/shm") as folder:
        assert Path(folder).name not in shared_memory.left_in_shared_memory(before)
        (Path(folder) / "segment").touch()
        assert Path(folder).name in shared_memory.left_in_shared_memory(before)

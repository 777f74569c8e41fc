"""Checkpoints: the state of a run in one HDF5 file. HDF5 is imported when the first one is read or written.

To change the checkpoint format:

1. Change what of a run is stored in dbp/run/snapshot.py, or how it is stored in format.py, writing.py and reading.py.
2. Raise FORMAT_VERSION in format.py. Files of earlier versions are refused with one line.
3. Update the docstring of format.py and the table in docs/checkpoints.md, and say it in CHANGELOG.md.
4. Test it in tests/checkpoint and tests/run/test_snapshot.py; a run that resumes from each checkpoint must come to the
   same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.checkpoint.format import (
    BEST_GROUP,
    StoredCheckpoint,
    begins_as_checkpoint,
    digest_arrays,
    epoch_words,
    progress_of_best,
    size_of,
)
from dbp.checkpoint.stored_config import table_of
from dbp.checkpoint.writer_thread import Pace, Writer

if TYPE_CHECKING:
    from dbp.checkpoint.folder import (
        CheckpointFolder,
        Keep,
        Newest,
        all_of,
        checkpoints_of,
        files_of,
        find,
        step_of,
        verdict,
    )
    from dbp.checkpoint.reading import Opened, opened, read
    from dbp.checkpoint.writing import write

_FOLDER = ("CheckpointFolder", "Keep", "Newest", "all_of", "checkpoints_of", "files_of", "find", "step_of", "verdict")
_WITH_HDF5 = {
    **dict.fromkeys(_FOLDER, "folder"),
    **dict.fromkeys(("Opened", "opened", "read"), "reading"),
    "write": "writing",
}

__all__ = [
    "BEST_GROUP",
    "CheckpointFolder",
    "Keep",
    "Newest",
    "Opened",
    "Pace",
    "StoredCheckpoint",
    "Writer",
    "all_of",
    "begins_as_checkpoint",
    "checkpoints_of",
    "digest_arrays",
    "epoch_words",
    "files_of",
    "find",
    "opened",
    "progress_of_best",
    "read",
    "size_of",
    "step_of",
    "table_of",
    "verdict",
    "write",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, _WITH_HDF5, name)

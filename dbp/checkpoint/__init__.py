"""Checkpoints: the state of a run in one HDF5 file."""

from dbp.checkpoint.beside import Writer
from dbp.checkpoint.commit import commit, writing_to
from dbp.checkpoint.folder import CheckpointFolder, Keep, Newest, all_of, checkpoints_of, find, step_of, verdict
from dbp.checkpoint.format import Checkpoint, digest_arrays, size_of
from dbp.checkpoint.reading import Opened, opened, read
from dbp.checkpoint.told import table_of
from dbp.checkpoint.writing import write

__all__ = [
    "Checkpoint",
    "CheckpointFolder",
    "Keep",
    "Newest",
    "Opened",
    "Writer",
    "all_of",
    "checkpoints_of",
    "commit",
    "digest_arrays",
    "find",
    "opened",
    "read",
    "size_of",
    "step_of",
    "table_of",
    "verdict",
    "write",
    "writing_to",
]

"""Checkpoints: the state of a run in one HDF5 file."""

from dbp.checkpoint.folder import CheckpointFolder, commit, find
from dbp.checkpoint.format import Checkpoint, digest_arrays, read

__all__ = ["Checkpoint", "CheckpointFolder", "commit", "digest_arrays", "find", "read"]

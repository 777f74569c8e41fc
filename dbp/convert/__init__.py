"""Converters: data as people have it, read block by block and written as HDF5 files that suit training."""

from dbp.convert.from_python import write_blocks

__all__ = ["write_blocks"]

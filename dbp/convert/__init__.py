"""Converters: data as people have it, read block by block and written as HDF5 files that suit training."""

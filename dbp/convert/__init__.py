"""Converters: data as people have it, read block by block and written as HDF5 files that suit training.

To add a format:

1. Write a module of its name with a function that returns a `Content`. Its blocks are read while they are written, so
   that no file needs to be in memory whole; nothing in a file is trusted: it is converted, or refused with one line.
   A format of tables needs a class like `ParquetTable` alone, as `from_table` decides what columns become.
2. Add a row to `FORMATS` in dbp/commands/convert.py, and a section to docs/data.md.
3. Test it in tests/convert/, with files that are damaged at random too.
"""

from dbp.convert.from_python import write_blocks

__all__ = ["write_blocks"]

"""Checks that a column of an HDF5 file is all there, as HDF5 itself fills in what is missing with zeros."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5s, h5z

from dbp.data.filters import PACKAGES, Filter, can_undo
from dbp.errors import DataError, UserError
from dbp.text import count_text

# What h5py raises for odd files.
HDF5_FAILURES = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError)


def reason_of(error: Exception) -> str:
    """Return the first line of an exception's own text, as that of HDF5 may be pages long."""
    return str(error.args[-1] if error.args else error).partition("\n")[0]


@contextmanager
def reading_hdf5(what: str) -> Iterator[None]:
    """Raise DataError in place of any exception by which h5py says that it cannot read something.

    Args:
        what: what is read, as the message names it.
    """
    try:
        yield
    except HDF5_FAILURES as error:
        raise DataError(f"{what} cannot be read: {reason_of(error)}") from None


class StoredFile(NamedTuple):
    """A file that holds numbers of a column.

    Args:
        path: its path.
        size: the bytes that it must have, as HDF5 takes what lies behind its end for zeros.
        inode: of the file, if HDF5 keeps it open, so that another file of its name does not matter; else None.
    """

    path: Path
    size: int
    inode: int | None

    @classmethod
    def kept_open(cls, file: h5py.File) -> StoredFile:
        """Return the record of a file as it is now."""
        path = Path(file.filename).absolute()
        found = path.stat()
        return cls(path, found.st_size, found.st_ino)

    def check(self, what: str) -> None:
        """Raise DataError if the file has become shorter."""
        try:
            found = self.path.stat()
        except OSError:  # it has another name now; if HDF5 does not keep it open, it says so itself
            return
        if found.st_size < self.size and self.inode in (None, found.st_ino):
            raise DataError(
                f"{what} cannot be read: {self.path} was cut off to {found.st_size:,} bytes, of which {self.size:,} "
                "are needed; restore the file and start again"
            )


def check_complete(column: h5py.Dataset, what: str, files: list[StoredFile], around: Sequence[str] = ()) -> list[str]:
    """Return warnings of parts of a column that were never written, which HDF5 fills in.

    Args:
        column: the column.
        what: its file and name, for messages.
        files: gets the files that hold its numbers, which must stay as long as they are.
        around: the virtual columns of which it is a source, likewise.

    Raises:
        DataError: nothing of the column is stored, or a source is missing, too short or cannot be read.
        UserError: a filter that the column needs is not installed.
    """
    if what in around:
        raise DataError(f"{what} is a source of itself, over {' and '.join(around)}; write the data set anew")
    with reading_hdf5(what):
        files.append(StoredFile.kept_open(column.file))
        if column.is_virtual:
            return _check_sources(column, what, files, [*around, what])
        if column.external:
            return _check_external_files(column, what, files)
        if column.id.get_storage_size() == 0:
            raise DataError(f"{what} was created but never written, so that nothing of it is stored; write it first")
        return _check_chunks(column, what) if column.chunks else []


def _check_chunks(column: h5py.Dataset, what: str) -> list[str]:
    _check_filters(column, what)
    assert column.chunks is not None
    expected = math.prod(-(-size // chunk) for size, chunk in zip(column.shape, column.chunks, strict=True))
    missing = expected - column.id.get_num_chunks()
    was = "was" if missing == 1 else "were"
    return (
        [_filled_in(column, what, f"{missing:,} of {count_text(expected, 'chunk')} {was} never written")]
        if missing > 0
        else []
    )


def _filled_in(column: h5py.Dataset, what: str, finding: str) -> str:
    return f"{what}: {finding}; their numbers count as {column.fillvalue}"


def _check_filters(column: h5py.Dataset, what: str) -> None:
    """Raise UserError if a filter is not installed that the first stored chunk has gone through."""
    properties, skipped = column.id.get_create_plist(), column.id.get_chunk_info(0).filter_mask
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        can_decode = h5z.filter_avail(code) and h5z.get_filter_info(code) & h5z.FILTER_CONFIG_DECODE_ENABLED
        if not can_decode and not skipped >> number & 1 and not can_undo([Filter(code)]):
            package = f"pip install {PACKAGES[code]}, or " if code in PACKAGES else ""
            label = f"{code} ({name.decode(errors='replace')})" if name else f"{code}"
            raise UserError(
                f"{what} is stored with HDF5 filter {label}, which is not installed here; {package}set "
                "HDF5_PLUGIN_PATH to the folder of its plugin, such as hdf5plugin.PLUGIN_PATH after pip install "
                "hdf5plugin, or write the data set without it"
            )


# --- other files ------------------------------------------------------------------------------------


def _check_external_files(column: h5py.Dataset, what: str, files: list[StoredFile]) -> list[str]:
    """Raise DataError if a file with the column's numbers is missing, or too short, which HDF5 would take as zeros."""
    folder = str(Path(column.file.filename).absolute().parent)
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", folder)
    left = math.prod(column.shape) * column.id.get_type().get_size()
    for name, offset, size in column.external:
        path, needed = Path(prefix, name), min(size, left)
        if not path.is_file():
            raise DataError(f"{what} has its numbers in {path}, which is missing (looked for {path.absolute()})")
        if path.stat().st_size < offset + needed:
            raise DataError(
                f"{what} has its numbers in {path}, which is too short: it has {path.stat().st_size:,} bytes, but "
                f"{offset + needed:,} are needed"
            )
        files.append(StoredFile(path.absolute(), offset + needed, None))
        left -= needed
    return []


def find_linked(name: str, file: str, variable: str, prefix: str = "") -> Path | None:
    """Return the HDF5 file that a link or a virtual data set means, or None, in the order in which HDF5 looks.

    Args:
        name: the name in the link.
        file: the file with the link.
        variable: the environment variable with prefixes for such names.
        prefix: another prefix, which a data set has.
    """
    here = Path(file).absolute()
    folders = [folder for folder in (*os.environ.get(variable, "").split(":"), prefix) if folder]
    short = Path(name).name if name.startswith("/") else name
    candidates = [*([Path(name)] if name.startswith("/") else []), *(Path(folder, short) for folder in folders)]
    candidates += [here.parent / short, Path(short), here.resolve().parent / short]
    return next((path for path in candidates if path.is_file() and h5py.is_hdf5(path)), None)


class _Source(NamedTuple):
    """A data set that a virtual one shows a part of.

    Args:
        file: the name of its file; "." for that of the virtual one.
        name: the name of the data set.
        size: how many numbers it must have, if it is shown whole; else None.
        last: the largest index along each axis that is shown, if not whole.
    """

    file: str
    name: str
    size: int | None
    last: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.file}"


def _check_sources(column: h5py.Dataset, what: str, files: list[StoredFile], around: Sequence[str]) -> list[str]:
    covered, warnings, firsts = h5s.create_simple(column.shape), [], []
    covered.select_none()
    for mapping in column.virtual_sources():
        corners = _cover(covered, mapping.vspace, column.shape)
        for source in _sources(mapping, len(corners)):
            warnings += _check_source(column, source, what, files, around)
        firsts += corners
    _open_sources(column, what, firsts)
    missing = math.prod(column.shape) - covered.get_select_npoints()
    if missing:
        has = "has" if missing == 1 else "have"
        warnings.append(
            _filled_in(column, what, f"{missing:,} of {count_text(math.prod(column.shape), 'number')} {has} no source")
        )
    return list(dict.fromkeys(warnings))


def _open_sources(column: h5py.Dataset, what: str, corners: Sequence[tuple[int, ...]]) -> None:
    """Read a number of each source, which HDF5 keeps open from then on; it would fill in one that it cannot open later.

    Raises:
        UserError: they cannot all be open at once.
    """
    if not corners:
        return
    space = column.id.get_space()
    space.select_elements(np.array(sorted(corners), np.uint64))  # in another order HDF5 cannot read them at once
    try:
        column.id.read(h5s.create_simple((len(corners),)), space, np.empty(len(corners), column.dtype))
    except HDF5_FAILURES as error:
        raise UserError(
            f"{what} is virtual, and its {len(corners):,} parts cannot be open at once ({reason_of(error)}); allow "
            "more open files (ulimit -n), or copy it into one file"
        ) from None


def _cover(covered: Any, part: Any, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Add a part of a virtual data set to a selection.

    Returns:
        where it begins, and where each block does that lies behind another along an unlimited axis.
    """
    if part.get_select_type() == h5s.SEL_ALL:
        covered.select_all()
        return [(0,) * len(shape)]
    if not part.is_regular_hyperslab():
        for first, last in part.get_select_hyper_blocklist():
            covered.select_hyperslab(tuple(first), (1,) * len(shape), None, tuple(last - first + 1), h5s.SELECT_OR)
        return [part.get_select_bounds()[0]]
    start, stride, count, block = (list(values) for values in part.get_regular_hyperslab())
    corners = [tuple(start)]
    for axis, size in enumerate(shape):
        if count[axis] >= h5s.UNLIMITED:
            begins = range(start[axis], size, stride[axis])
            count[axis] = len(begins)
            corners = [(*start[:axis], begin, *start[axis + 1 :]) for begin in begins]
        elif block[axis] >= h5s.UNLIMITED:
            block[axis] = size - start[axis]
    if min(*count, *block) <= 0:
        return []
    covered.select_hyperslab(tuple(start), tuple(count), tuple(stride), tuple(block), h5s.SELECT_OR)
    return corners


def _sources(mapping: Any, blocks: int) -> list[_Source]:
    """Return the sources of a part of a virtual data set: one for each block if their names have its number, %b."""
    if "%b" in mapping.file_name + mapping.dset_name:
        names = [(_numbered(mapping.file_name, i), _numbered(mapping.dset_name, i)) for i in range(blocks)]
        return [_Source(file, name, None, ()) for file, name in names]
    size: int | None = None
    last: tuple[int, ...] = ()
    if mapping.src_space.get_select_type() == h5s.SEL_ALL:
        size = mapping.vspace.get_select_npoints()
    else:
        last = tuple(0 if i >= h5s.UNLIMITED else i for i in mapping.src_space.get_select_bounds()[1])
    return [_Source(mapping.file_name, mapping.dset_name, size, last)]


def _numbered(pattern: str, number: int) -> str:
    return "%".join(part.replace("%b", str(number)) for part in pattern.split("%%"))


def _check_source(
    column: h5py.Dataset, source: _Source, what: str, files: list[StoredFile], around: Sequence[str]
) -> list[str]:
    """Raise DataError, naming the source, unless it has all that is shown of it; return warnings."""
    failure = f"{what} is virtual, and its source {source}"
    if source.file == ".":
        return _check_source_in(column.file, source, failure, files, around)
    name, prefix = column.file.filename, column.id.get_access_plist().get_virtual_prefix().decode(errors="replace")
    path = find_linked(source.file, name, "HDF5_VDS_PREFIX", prefix)
    if path is None:
        raise DataError(f"{failure} is missing or not an HDF5 file; put it beside {name}")
    with reading_hdf5(failure), h5py.File(path, "r") as opened:
        return _check_source_in(opened, source, failure, files, around)


def _check_source_in(
    file: h5py.File, source: _Source, failure: str, files: list[StoredFile], around: Sequence[str]
) -> list[str]:
    found = file.get(source.name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise DataError(f"{failure} is missing: the file has no such data set")
    shape = found.shape
    is_short = source.size is not None and found.size < source.size
    if is_short or any(index >= size for index, size in zip(source.last, shape, strict=False)):
        raise DataError(f"{failure} is too short: it has shape {shape}, and more of it is shown")
    return check_complete(found, f"{file.filename}: {source.name}", files, around)

"""The data of a run: opened, split into training and validation, and checked by all ranks together."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dbp.config.data import FILES, NAMES, PARTS, Data, is_in_files
from dbp.config.settings import Settings
from dbp.data import (
    CheckExamples,
    ColumnNames,
    Dataset,
    FileDataset,
    FileLayout,
    FileSource,
    JoinedLayout,
    Meaning,
    aligned,
    block_count,
    check_all,
    check_blocks,
    combined,
    example_masks,
    layout_of,
    meaning_of,
    same_files,
    sample_digest,
)
from dbp.errors import PassStoppedError, UserError
from dbp.parallel import Communicator, agree, check_equal_on_ranks, parts, shared_from_rank_0
from dbp.reading.sampler import borders_of
from dbp.reading.splits import split
from dbp.reading.subset import Subset
from dbp.run.extra_columns import held_out_marks
from dbp.terminal import write_error
from dbp.text import count_text, shortened
from dbp.types import Array, Shape

PATIENCE_SECONDS = 0.5  # within which a pass over data is finished although the run is to stop


@dataclass(frozen=True)
class Sources:
    """The examples of a run.

    Args:
        train: examples to train on.
        validation: examples to evaluate after each epoch, if any.
        test: examples to evaluate at the end, if any.
        files: the whole data sets that they come from, by purpose.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    files: dict[str, Dataset]

    @property
    def meaning(self) -> Meaning:
        """Return what the numbers of the training data mean."""
        return meaning_of(self.files["train"])

    def shapes(self) -> dict[str, str]:
        """Return the size of each data set and of the units that it is read in, by purpose; reads no rows."""
        return {f"{purpose} data": _shape_text(data) for purpose, data in self.files.items()}

    def compare(self, comm: Communicator) -> None:
        """Raise UserError if ranks have other data than others; collective.

        Data in files that all ranks see is the same. Of other data a sample of rows is compared.
        """
        seen = comm.gather(agree(comm, lambda: {purpose: same_files(data) for purpose, data in self.files.items()}))
        others = [
            purpose
            for purpose, of_first in seen[0].items()
            if not of_first or any(s[purpose] != of_first for s in seen)
        ]
        samples = agree(comm, lambda: {f"{purpose} data": sample_digest(self.files[purpose]) for purpose in others})
        check_equal_on_ranks(comm, samples, "give all ranks the same data, whole")

    def read_from(self, whole: Dataset) -> Sources:
        """Return these examples, but read those of the training data set from another one with the same rows."""
        full = self.files["train"]

        def replaced(data: Any) -> Any:
            if isinstance(data, Subset) and data.whole is full:
                return data.of(whole)
            return whole if data is full else data

        train, validation = replaced(self.train), replaced(self.validation)
        return replace(self, train=train, validation=validation, files={**self.files, "train": whole})

    def stored_rows(self, rows: Array) -> Array:
        """Return the rows of the whole data set that these training examples come from."""
        return self.train.rows_of_whole(rows) if isinstance(self.train, Subset) else rows

    def describe(self) -> str:
        """Return the number of examples for each purpose, in words."""
        purposes = {"training": self.train, "validation": self.validation, "test": self.test}
        return ", ".join(f"{len(data):,} {purpose}" for purpose, data in purposes.items() if data is not None)


def _shape_text(data: Dataset) -> str:
    borders = getattr(data, "borders", None)
    units = (
        "" if borders is None else f" in {len(borders) - 1} chunks {hashlib.sha256(borders.tobytes()).hexdigest()[:8]}"
    )
    return f"{len(data)} examples{units}"


def files_of(data: Data) -> list[Path]:
    """Return the files that the data of a run is read from."""
    sources = [source_in(data, getattr(data, part)) for part in PARTS]
    return [path for source in sources if source is not None for path in source.paths()]


def shared_files(data: Data) -> list[str]:
    """Return a warning for each part of the data, but for the first, that has a file of a part before it."""
    sources = {part: source_in(data, getattr(data, part)) for part in PARTS}
    locations = {part: source.locations() for part, source in sources.items() if source is not None}
    warnings = []
    for part, other in itertools.combinations(locations, 2):
        if common := [name for location, name in locations[other].items() if location in locations[part]]:
            warnings.append(
                f"data.{other} has the same examples as data.{part} in {shortened(common)}, so that its figures do not "
                "show what the model makes of others"
            )
    return warnings


def source_in(data: Data, source: Any) -> FileSource | None:
    """Return the files that a source names, with the names of their columns; None for a source that is not in files."""
    if not is_in_files(source):
        return None
    table = source if isinstance(source, Mapping) else {FILES: source}
    given = {name: getattr(data, name) for name in NAMES} if FILES in table else {}
    names = ColumnNames(*({**given, **table}.get(name) for name in NAMES))
    files = table.get(FILES, [])
    files = [files] if isinstance(files, str) else files
    return FileSource(files, names, data.scale, data.shift)


def open_data(data: Data, source: Any, with_targets: bool = True) -> Dataset | None:
    """Return the data set that a source names or is; None for no source."""
    if (in_files := source_in(data, source)) is not None:
        return in_files.open(with_targets)
    return source if isinstance(source, Dataset) else None


def warnings_of(data: Dataset) -> Sequence[str]:
    """Return what the user should know of a data set before it is used."""
    found: Sequence[str] = getattr(data, "warnings", ())
    return found


def print_warnings(comm: Communicator, data: Dataset) -> None:
    """Print the warnings of a data set on rank 0."""
    if comm.rank == 0:
        for text in warnings_of(data):
            write_error(f"warning: {text}")


def open_on_all_ranks(comm: Communicator, data: Data, source: Any, with_targets: bool = True) -> Dataset | None:
    """Return the data set that a source names or is, or None for no source; collective.

    Rank 0 opens files with HDF5. All read their columns where rank 0 has found them, which spares the others loading
    HDF5; a rank that cannot do so opens the files itself. Large tables, and columns that can only be held in memory,
    lie in memory that the ranks of a node share.
    """
    if (in_files := source_in(data, source)) is None:
        return open_data(data, source)
    opened: list[FileDataset] = []
    warnings: list[str] = []

    def look() -> FileLayout | JoinedLayout | None:
        found = in_files.open(with_targets)
        warnings.extend(found.warnings)
        if (layout := layout_of(found)) is None:
            opened.append(found)
        return layout

    def take(layout: FileLayout | JoinedLayout | None) -> Dataset:
        found = opened[0] if opened else in_files.open_as(layout, with_targets)
        found.warnings = warnings or found.warnings
        return found

    return agree(comm, take, shared_from_rank_0(comm, look))


def open_sources(settings: Settings, comm: Communicator) -> Sources:
    """Open all data of a run; raise UserError if something is missing or does not fit together; collective."""
    train, validation, test = (
        open_on_all_ranks(comm, settings.data, source)
        for source in (settings.data.train, settings.data.validation, settings.data.test)
    )
    assert train is not None
    source = source_in(settings.data, settings.data.train)
    marks = held_out_marks(comm, settings.data, source, train, settings.seed)
    return agree(comm, _split_and_check, settings, train, validation, test, marks)


def _split_and_check(
    settings: Settings, full: Dataset, validation: Dataset | None, test: Dataset | None, marks: Array | None
) -> Sources:
    """Return the data of a run, split; raise UserError if it does not fit together."""
    data, train = settings.data, full
    meaning = meaning_of(full)
    own_scale = data.scale is data.shift is None
    remedy = partial(how_to_state_scale, own_scale)
    validation, test = (
        None if other is None else aligned(other, meaning, remedy, own_scale or isinstance(source, Dataset))
        for other, source in ((validation, data.validation), (test, data.test))
    )
    files = {"train": full, "validation": validation, "test": test}
    if data.split is not None:
        train, validation = split(full, data.split, settings.seed, borders_of(full, data.order), marks)
    if settings.examples_per_step(len(train)) > len(train):
        raise UserError(
            f"batch_size is {settings.batch_size}, but must not be larger than the training data, which has "
            f"{count_text(len(train), 'example')}; for all of them set it to 'all'"
        )
    for purpose, other in files.items():
        if other is not None and not _have_like_examples(other, full):
            raise UserError(
                f"{other.name}: {purpose} inputs have shape {other.input_shape} per example, but those of "
                f"{full.name} have {full.input_shape}"
            )
    return Sources(train, validation, test, {name: file for name, file in files.items() if file is not None})


def _have_like_examples(one: Dataset, other: Dataset) -> bool:
    """Return True if the inputs of two data sets have the same shapes, but for the positions of masks in both."""
    return _fixed_shapes(one) == _fixed_shapes(other)


def _fixed_shapes(data: Dataset) -> dict[str, tuple[int, Shape]]:
    """Return the number of masked axes of each of a data set's inputs, and the shape of the others."""
    shapes, masks = data.input_shape, example_masks(data)(1)
    if not isinstance(shapes, Mapping):
        shapes, masks = {"": shapes}, {} if masks is None else {"": masks}
    masked = {name: masks[name].ndim - 1 if masks and name in masks else 0 for name in shapes}
    return {name: (masked[name], tuple(shape)[masked[name] :]) for name, shape in shapes.items()}


def how_to_state_scale(own_scale: bool, of_training: float, of_data: float) -> str:
    """Return what brings other data to the scale of the training data.

    Args:
        own_scale: whether data sets have scales of their own rather than that of the config.
        of_training: the scale of the training data.
        of_data: that of the other data.
    """
    if not own_scale and of_training == of_data:
        return "convert them to the same kind, or give each data set a scale of its own in place of data.scale"
    return f"if they are in the same units, give them the attribute scale = {of_training!r}; else convert them"


def stop_check(comm: Communicator) -> Callable[[], bool]:
    """Return a function for a pass over data that begins now: whether it is to end, as this rank asks to stop."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun > PATIENCE_SECONDS and comm.asks_to_stop()


def check_together(
    comm: Communicator,
    data: Dataset,
    dtype: np.dtype[Any],
    check_examples: CheckExamples,
    before_block: Callable[[], None] = lambda: None,
) -> str:
    """Check every row of a data set, each rank a part, and return the digest of the whole; collective.

    Args:
        comm: the ranks.
        data: the data set.
        dtype: the precision of the run.
        check_examples: raises UserError for examples that do not fit model or loss.
        before_block: called before each block of rows that this rank checks.

    Raises:
        DataError: an example breaks a rule.
        PassStoppedError: a rank has been asked to stop; a short check is finished all the same.
    """
    stop = stop_check(comm)

    def stops() -> bool:
        before_block()
        return stop()

    count = block_count(data)
    mine = parts(count, comm.size, comm.rank)
    found = comm.gather(agree(comm, check_blocks, data, mine, dtype, check_examples, stops))
    blocks = [block for of_rank in found for block in of_rank]
    if len(blocks) < count:
        raise PassStoppedError
    agree(comm, check_all, data, blocks, dtype)
    return combined([block.digest for block in blocks])

"""The check of all rows of a data set, on ranks, apart from any run: what `dbp check` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.data import CheckExamples, Dataset, block_count, example_masks, stored_bytes
from dbp.data.dataset import example_form
from dbp.errors import UserError
from dbp.named_arrays import zeros_of
from dbp.nn import initial_parameters
from dbp.parallel import Communicator, agree, parts
from dbp.reading.example_check import ExampleCheck
from dbp.reading.output_form import output_form
from dbp.run.model_check import check_standardized
from dbp.run.sources import check_together, open_on_all_ranks, print_warnings
from dbp.text import count_text, shortened, size

PROGRESS_SECONDS = 5.0  # between two lines on how far the check is

Say = Callable[[str], None]


def check_whole(source: Any, data: Data, settings: Settings | None, comm: Communicator, say: Say) -> str:
    """Return a line on a data set, all of whose rows keep the rules; collective.

    Args:
        source: the data set, as settings name it.
        data: the names of its columns.
        settings: of the run that it is for, whose model and loss its examples must fit; None for any.
        comm: the ranks.
        say: prints a line on how far the check is; called on rank 0.

    Raises:
        UserError: the data set cannot be opened, or is not of the shape that the model takes.
        DataError: an example breaks a rule; names the file, the row and the rule.
    """
    opened = open_on_all_ranks(comm, data, source)
    assert opened is not None
    print_warnings(comm, opened)
    rules = agree(comm, _rules_of, settings, opened)
    check: CheckExamples = (lambda examples, first: None) if rules is None else rules
    dtype = np.dtype("float32") if settings is None else settings.numpy_dtype
    before_block = agree(comm, _progress, opened, comm, say if comm.rank == 0 else lambda _: None)
    digest = check_together(comm, opened, dtype, check, before_block)
    fits = "" if rules is None else " and fit model and loss"
    if rules is not None and rules.unchecked:
        fits = f" and fit the loss; what {shortened(rules.unchecked)} would refuse in its inputs shows in training only"
    what = f"{opened.name}: {count_text(len(opened), 'example')}, {size(stored_bytes(opened))}"
    return f"{what}: all can be used in {dtype}{fits}; digest {digest[:16]}"


def _rules_of(settings: Settings | None, data: Dataset) -> ExampleCheck | None:
    """Return the rules of model and loss for the examples; raise UserError if their shape does not fit the model."""
    if settings is None:
        return None
    example = zeros_of(data.input_shape, 2, settings.numpy_dtype)
    try:
        initial = initial_parameters(settings.model, example, 0, settings.numpy_dtype, example_masks(data)(2))
    except UserError as error:
        raise UserError(f"{data.name}: does not fit the model: {error}") from None
    check_standardized(settings, initial)
    return ExampleCheck.of(settings.model, output_form(settings.loss, initial, example_form(data)), initial, data)


def _progress(data: Dataset, comm: Communicator, say: Say) -> Callable[[], None]:
    """Return a function to call before each block of this rank, which says now and then how far it is."""
    whole, count = stored_bytes(data), len(parts(block_count(data), comm.size, comm.rank))
    begun = last = time.monotonic()
    done = 0

    def before_block() -> None:
        nonlocal done, last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last, read = now, whole * done / count
            say(f"checked {done / count:.0%} of {size(whole)}, {size(read / (now - begun))}/s")
        done += 1

    return before_block

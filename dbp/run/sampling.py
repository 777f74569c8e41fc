"""The sampler of a run: the order of its training examples in each epoch."""

from __future__ import annotations

from dbp.config.settings import Settings
from dbp.data import Dataset
from dbp.parallel import Communicator, agree, check_equal_on_ranks
from dbp.reading.sampler import Sampler
from dbp.run.extra_columns import drawing_ends
from dbp.run.sources import source_in


def sampler_of(comm: Communicator, settings: Settings, train: Dataset, batch_size: int) -> Sampler:
    """Return the sampler of the training examples, the same on all ranks; collective.

    Raises:
        UserError: the weights for drawing are none, or ranks have data in other chunks.
    """
    data = settings.data
    ends = drawing_ends(comm, data, source_in(data, data.train), train)
    sampler = agree(comm, Sampler.of, train, settings.seed, batch_size, data.order, data.window, ends)
    check_equal_on_ranks(comm, {"order": sampler.description}, "give all ranks the same data")
    return sampler

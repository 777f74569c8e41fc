"""How tests open a data set in files as the processes of a run do."""

import pickle

from dbp.data import layout_of


def opened(source, **options):
    """Return the data set as rank 0 and as another process opens it."""
    data = source.open(**options)
    return data, source.open_as(pickle.loads(pickle.dumps(layout_of(data))), **options)

"""Data sets, the order of their examples, checks, and converters to HDF5."""

from dbp.data.check import CheckTargets, block_count, check_blocks, combined, sample_digest
from dbp.data.dataset import ArrayDataset, Dataset, Examples, Subset, scaled
from dbp.data.hdf5 import HDF5Dataset, data_path
from dbp.data.order import Batches, Order
from dbp.data.output import OutputFile, must_be_free

__all__ = [
    "ArrayDataset",
    "Batches",
    "CheckTargets",
    "Dataset",
    "Examples",
    "HDF5Dataset",
    "Order",
    "OutputFile",
    "Subset",
    "block_count",
    "check_blocks",
    "combined",
    "data_path",
    "must_be_free",
    "sample_digest",
    "scaled",
]

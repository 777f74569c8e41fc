"""Files for torch.load: their bytes, read as PyTorch reads them."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.exchange.pt_file import pt_file

TYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}
TYPES |= {"ComplexFloatStorage": "<c8", "ComplexDoubleStorage": "<c16"}


class Reader(pickle.Unpickler):
    """An unpickler with arrays in place of tensors, for the few names that torch.load(weights_only=True) allows."""

    def __init__(self, archive):
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self.archive = archive

    def find_class(self, module, name):
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("collections", "OrderedDict"): dict,
            **{("torch", kind): kind for kind in TYPES},
        }
        return known[module, name]

    def persistent_load(self, pid):
        word, kind, key, device, count = pid
        assert (word, device) == ("storage", "cpu")
        numbers = np.frombuffer(self.archive.read(f"archive/data/{key}"), TYPES[kind])
        assert len(numbers) == count
        return numbers

    @staticmethod
    def tensor(numbers, offset, shape, strides, requires_grad, hooks):
        assert (offset, requires_grad, hooks) == (0, False, {})
        strides = [numbers.itemsize * step for step in strides]
        return np.lib.stride_tricks.as_strided(numbers, shape, strides)


def test_arrays_come_back_with_types_shapes_and_values():
    rng = np.random.default_rng(0)
    arrays = {
        "0.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "0.turned": rng.standard_normal((2, 3, 4)).T,
        "ü.half": np.ones(300, np.float16),
        "count": np.array(70_000, np.int64),
        "spectrum": (rng.standard_normal((4, 3)) + 1j).astype(np.complex64),
        "fine": rng.standard_normal(3) - 2j,
        "empty": np.empty((0, 2), np.float32),
    }
    content = pt_file(arrays, {})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        found = Reader(archive).load()
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert pt_file(arrays, {}) == content


def test_a_type_that_the_format_lacks_is_refused():
    with pytest.raises(UserError, match=r"'a' is of type uint16, which \.pt files of dbp do not hold"):
        pt_file({"a": np.ones(2, np.uint16)}, {})

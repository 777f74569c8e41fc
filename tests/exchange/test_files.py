"""Files of weights: those that lie about what they hold are refused in little memory."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.exchange import import_weights
from dbp.exchange.files import open_weights


def npz(path, header, content=b"", version=(1, 0), method=zipfile.ZIP_DEFLATED):
    """Return an archive of one array with the given header and contents."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("dense_1/weight.npy", b"\x93NUMPY" + bytes(version) + size + header + content)


def header(shape, dtype="<f4"):
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


def peak_of_refusal(path, config, match):
    """Return the peak memory of a refusal in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=match):
            import_weights(path, config, path.with_name("out.h5"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def liars(path):
    """Write archives that claim, or unpack to, more than they hold, each with the expected message."""
    zeros = b"\0" * 2**26
    npz(path / "shape.npz", header((10**6, 10**6)))
    yield "shape.npz", r"of another shape: dense_1/weight \(1000000, 1000000\)"
    npz(path / "negative.npz", header((-1, 64)), zeros)
    yield "negative.npz", "would be of shape"
    npz(path / "bomb.npz", header((64, 6)), zeros)
    yield "bomb.npz", "is longer than its shape"
    npz(path / "short.npz", header((64, 6)), b"\0" * 8)
    yield "short.npz", "damaged, or no npz archive"
    npz(path / "header.npz", b" " * 2**26, version=(2, 0))
    yield "header.npz", "damaged, or no npz archive"
    npz(path / "object.npz", header((2,), "|O"), b"cos\nsystem\n")
    yield "object.npz", "must be numbers, but is of type object"
    npz(path / "packed.npz", header((64, 6)), bytes(64 * 6 * 4), method=zipfile.ZIP_LZMA)
    yield "packed.npz", "is packed in another way"
    (path / "none.npz").write_bytes(b"PK\3\4 no archive")
    yield "none.npz", "damaged, or no npz archive"


def test_archives_that_lie_are_refused_in_little_memory(trained, tmp_path):
    for name, told in liars(tmp_path):
        peak = peak_of_refusal(tmp_path / name, trained[0], told)
        assert peak < 2**24, f"{name}: {peak:,} bytes"


def safe(path, entries, content=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)


def test_safetensors_that_lie_are_refused_in_little_memory(trained, tmp_path):
    path, name = tmp_path / "weights.safetensors", "dense_1/weight"
    huge = {name: {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    cases = [
        (huge, b"", None, "are damaged"),
        ({name: {"dtype": "F32", "shape": [64, 6], "data_offsets": [0, 8]}}, bytes(8), None, "are damaged"),
        ({name: {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 0]}}, b"", None, "are damaged"),
        (b"{", b"", 2**62, r"its header would be of 4,611,686,018,427,387,904 bytes"),
        (b" " * 2**25, b"", None, r"its header would be of 33,554,432 bytes"),
        (b"[" * 10**5, b"", None, "are damaged"),
        ({name: {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), None, "save it as float32"),
    ]
    for entries, content, length, told in cases:
        safe(path, entries, content, length)
        assert peak_of_refusal(path, trained[0], told) < 2**24


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.safetensors or \.npz; in PyTorch, safetensors\.torch\.save_file"):
        open_weights(tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.npz do not exist"):
        open_weights(tmp_path / "weights.npz")


def test_fortran_order_is_read_as_it_is_meant(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = io.BytesIO()
    np.savez_compressed(content, array=array)
    (tmp_path / "f.npz").write_bytes(content.getvalue())
    np.testing.assert_array_equal(open_weights(tmp_path / "f.npz").read("array"), array)

"""Event files of TensorBoard: checksums, and reading what was written, whole or not."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.listeners.event_file import checksum, first_records, records, scalars_record, step_and_tag

STEPS = st.integers(0, 2**63 - 1)


def crc(data):
    """Return the CRC-32C that a checksum is of, without its mask."""
    masked = (checksum(data) - 0xA282EAD8) & 0xFFFFFFFF
    return (masked >> 17 | masked << 15) & 0xFFFFFFFF


def test_checksums_are_those_of_the_standard():
    """The examples of RFC 3720, appendix B.4, and the digits that all CRCs are compared by."""
    assert crc(b"123456789") == 0xE3069283
    assert crc(bytes(32)) == 0x8A9136AA
    assert crc(b"\xff" * 32) == 0x62A8AB43
    assert crc(bytes(range(32))) == 0x46DD794E


@given(st.lists(st.tuples(STEPS, st.text(min_size=1)), max_size=4), st.integers(0, 40))
def test_records_are_read_up_to_where_a_file_is_broken_off(written, missing):
    parts = [scalars_record(step, {tag: 0.5, "other": 1.0}) for step, tag in written]
    content = b"".join(parts)
    found = list(records(io.BytesIO(content[: max(0, len(content) - missing)])))
    whole = [record for record, _ in found]
    assert whole == parts[: len(whole)]
    assert len(parts) - len(whole) <= (missing > 0) * len(parts)
    assert [step_and_tag(message) for _, message in found] == [(s, t) for s, t in written[: len(whole)]]


def test_the_first_records_have_no_tag():
    assert [step_and_tag(message) for _, message in records(io.BytesIO(first_records(7)))] == [(0, ""), (8, "")]


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e300, np.inf), (-1e300, -np.inf), (np.inf, np.inf), (np.nan, np.nan), (1e-300, 0.0), (np.float64(2), 2.0)],
)
def test_any_number_can_be_written(value, written):
    ((_, message),) = records(io.BytesIO(scalars_record(1, {"a": value})))
    assert struct.unpack("<f", message[-4:])[0] == pytest.approx(written, nan_ok=True)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_refused(content):
    list(records(io.BytesIO(content)))
    try:
        step, tag = step_and_tag(content)
    except ValueError:
        return
    assert isinstance(step, int)
    assert isinstance(tag, str)


def test_a_length_that_was_changed_is_found():
    content = bytearray(scalars_record(3, {"a": 1.0}))
    content[0] += 1
    assert list(records(io.BytesIO(content))) == []
    with pytest.raises(ValueError, match="no message"):
        step_and_tag(b"\x0a\x7f")

"""What `dbp run` leaves out of the launcher's output."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.batch.launcher_output import WithoutBanners, copy

DASHES = b"-" * 74 + b"\n"
NOISE = DASHES + b"MPI_ABORT was invoked on rank 1\n  Errorcode: 1\n" + DASHES
OWN = DASHES + b"a table of my own\n" + DASHES


@given(
    st.lists(st.sampled_from([NOISE, OWN, b"text\n", b"-- short\n", b"\rbar 1/2", b"\n", b"a-b"]), max_size=6),
    st.integers(1, 200),
)
def test_only_the_launchers_boxes_are_left_out(parts, size):
    """The stream may be cut anywhere; here every part begins on a line of its own."""
    lines = [part if part.endswith(b"\n") else part + b"\n" for part in parts]
    stream = b"".join(lines)
    source, sink = os.pipe()
    os.write(sink, stream)
    os.close(sink)
    target, read = io.BytesIO(), os.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", lambda descriptor, _size: read(descriptor, size))
        copied = WithoutBanners(target)
        copied.copy(source)
    os.close(source)
    assert target.getvalue() == b"".join(line for line in lines if line is not NOISE)
    assert copied.banners == NOISE * lines.count(NOISE)
    assert copied.is_empty == (not target.getvalue().strip())


def test_a_box_that_is_never_closed_is_shown():
    source, sink = os.pipe()
    os.write(sink, DASHES + b"prterun was killed\n")
    os.close(sink)
    target = io.BytesIO()
    WithoutBanners(target).copy(source)
    os.close(source)
    assert target.getvalue() == DASHES + b"prterun was killed\n"


def test_what_open_mpi_says_of_a_rank_that_has_gone_is_left_out():
    source, sink = os.pipe()
    os.write(sink, b"[node:12345] PMIX ERROR: PMIX_ERR_UNREACH in file base/ptl.c at line 700\ndbp: error: [a] b\n")
    os.close(sink)
    target = io.BytesIO()
    WithoutBanners(target).copy(source)
    os.close(source)
    assert target.getvalue() == b"dbp: error: [a] b\n"


def test_a_reader_that_has_left_does_not_end_the_copy():
    source, sink = os.pipe()
    os.write(sink, b"some lines\n")
    os.close(sink)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as target:
        copy(source, target)
    assert os.read(source, 1) == b""
    os.close(source)

"""Numbers as they are sent: rounded to 16 bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dbp.parallel.ranks.wire import Wire


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_messages_of_16_bits_are_rounded_to_the_nearest(values):
    numbers = np.array(values, np.float32)
    for form, bits, most in (("bfloat16", 8, 3.38e38), ("float16", 11, 65503.0)):
        sent, pack = Wire(form).outgoing(numbers, slice(None))
        received = np.empty_like(numbers)
        message, unpack = Wire(form).incoming(received, slice(None))
        pack()
        assert sent.nbytes == 2 * len(values)
        message[:] = sent
        unpack()
        np.testing.assert_array_equal(np.isnan(received), np.isnan(numbers))
        usual = (np.abs(numbers) < most) & (np.abs(numbers) > 1e-4)
        assert (np.abs(received[usual] - numbers[usual]) <= np.abs(numbers[usual]) * 2.0**-bits).all()
        alike = numbers.copy()
        sent_to_all, action = Wire(form).outgoing_sum(alike, slice(None))
        action()
        np.testing.assert_array_equal(sent_to_all, sent)
        np.testing.assert_array_equal(alike, received)
    full, _ = Wire("full").outgoing(numbers, slice(None))
    assert np.shares_memory(full, numbers)

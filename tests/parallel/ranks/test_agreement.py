"""Agreement of ranks on values and errors."""

import pytest

from dbp.errors import UserError
from dbp.parallel import OneProcess, agree, from_rank_0


def test_one_process_agrees_with_itself():
    def fail():
        raise UserError("wrong")

    for call in (agree, from_rank_0):
        assert call(OneProcess(), lambda x: x + 1, 2) == 3
        with pytest.raises(UserError, match="wrong") as caught:
            call(OneProcess(), fail)
        assert caught.value.on_all_ranks

"""Patterns of the names of parameters."""

import pytest

from dbp.errors import UserError
from dbp.nn.name_patterns import matching_names

NAMES = ["conv2d_1/weight", "conv2d_1/bias", "dense_1/weight"]


def test_a_star_stands_for_any_text_and_names_keep_their_order():
    assert matching_names("frozen", ["*/bias", "conv2d_*"], NAMES) == NAMES[:2]
    assert matching_names("frozen", ["*"], NAMES) == NAMES
    assert matching_names("frozen", [], NAMES) == []


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"^frozen: the pattern 'dense_1' matches no parameter; .* 'dense_1/weight', "):
        matching_names("frozen", ["conv2d_*", "dense_1"], NAMES)

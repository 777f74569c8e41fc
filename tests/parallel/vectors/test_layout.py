"""Layouts: names of slices of one vector."""

import numpy as np
import pytest

from dbp.parallel import Layout


def test_layout_names_slices_of_one_vector():
    layout = Layout({"a": (2, 3), "b": (), "c": (0, 4)})
    vector = layout.flatten({"a": np.arange(6).reshape(2, 3), "b": np.array(7), "c": np.zeros((0, 4))}, np.float32)
    np.testing.assert_array_equal(vector, [0, 1, 2, 3, 4, 5, 7])
    views = layout.views(vector)
    assert views["a"].base is not None
    assert views["c"].shape == (0, 4)
    with pytest.raises(ValueError, match="read-only"):
        views["a"][0, 0] = 1


def test_tables_come_last():
    shapes = {"table": (5, 2), "a": (3,), "other": (4, 1), "b": (2,)}
    layout = Layout.with_tables(shapes, {"other", "table"})
    assert list(layout.shapes) == ["a", "b", "table", "other"]
    assert list(layout.dense.shapes) == ["a", "b"]
    vector = np.arange(layout.size)
    for table in layout.row_tables:
        np.testing.assert_array_equal(table.view(vector), layout.views(vector)[table.name])
    assert Layout.with_tables(shapes, ()).dense.shapes == shapes

"""Weights of nodes that differ: found, named and never saved."""

import pytest


@pytest.mark.slow
def test_a_flipped_bit_of_one_node_is_found_and_never_saved(start, tmp_path):
    outcome = start("flip", sizes="1,1,1")
    assert outcome.code == 70, outcome.text
    assert "weights of some nodes differ from those of the others: those of rank 1 on " in outcome.err
    assert " in hidden/weight" in outcome.err
    assert outcome.err.count("dbp: error: ") == 1
    assert not list((tmp_path / "run").glob("checkpoints/*.h5"))


@pytest.mark.slow
def test_nodes_that_are_alike_go_on(start, tmp_path):
    outcome = start("nothing", sizes="2,1")
    assert outcome.code == 0, outcome.text
    assert len(list((tmp_path / "run").glob("checkpoints/*.h5"))) == 1

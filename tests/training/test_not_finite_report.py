"""The report of numbers that are not finite: step, rank, layer and examples."""

import re

import numpy as np
import pytest

from dbp.config.data import Data
from dbp.nn import Dense
from dbp.optim import LBFGS
from dbp.parallel import Shards
from dbp.training.not_finite_report import describe, report
from tests.jobs import PROGRAMS, mpirun, slow
from tests.training.not_finite_runs import HOST, ChangingData, X, Y, failing, with_row


def test_the_report_tells_step_rank_layer_and_examples():
    assert failing(data=Data((with_row(2, 3e38), Y)), model=[Dense(8), Dense(2)]) == (
        "the cost is not finite at step 2 (epoch 1, cost nan): training stops\n"
        "  first not finite: the outputs of layer dense_1\n"
        f"    rank 0 on {HOST}; shard 1; 1 of 2 examples: row 2 of the train arrays\n"
        "  try a smaller learning_rate, clip_norm, or not_finite.action = 'skip' or\n"
        "    'roll_back'"
    )


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
def test_rows_are_those_of_the_data_set(whole):
    changing = ChangingData(np.repeat(X, 3, axis=0), np.repeat(Y, 3, axis=0), [4, 20])
    data = Data(changing, validation=None if whole else 0.2)
    told = failing(data=data, batch_size=1, shards=1, seed=4)
    assert "first not finite: the inputs in the data, as float32\n" in told
    assert re.search(r"; shard 0; 1 of 1 examples: row (4|20) of the train arrays\n  repair these", told)


def test_of_a_method_that_tries_other_weights():
    told = failing(optimizer=LBFGS(), data=Data((with_row(3, 1e30), Y)), batch_size=12)
    assert told.startswith("the cost is not finite at step 1 (epoch 1, cost inf): training stops\n")
    assert "first not finite: the loss mean_squared_error, of finite outputs\n" in told
    assert "1 of 6 examples: row 3 of the train arrays\n" in told


def test_nothing_found_is_said():
    assert describe([], "data") == ["at these weights cost and gradient are finite, but not where the next step leads"]


def test_reports_fit_a_terminal():
    text = report("a " * 60, ["b " * 60, "  " + "c " * 60, "x" * 100], room=12)
    lines = text.splitlines()
    assert len(lines[0]) <= 68
    assert all(len(line) <= 80 for line in lines if "x" not in line)
    assert [line[: len(line) - len(line.lstrip())] for line in lines] == [
        "",
        "  ",
        "  ",
        "    ",
        "    ",
        "      ",
        "  ",
    ]


@pytest.mark.parametrize("ranks", [2, *slow(3)])
@pytest.mark.parametrize(
    ("case", "what", "row", "shard"),
    [
        ("data", "the inputs in the data, as float32", 7, 2),
        ("layer", "the outputs of layer dense_2", 7, 2),
        ("lbfgs", "the loss mean_squared_error, of finite outputs", 7, 0),
    ],
)
def test_one_report_of_all_ranks(ranks, case, what, row, shard):
    outcome = mpirun(ranks, PROGRAMS / "not_finite_training.py", case, "{}", "-")
    assert outcome.code == 70, outcome.text
    assert outcome.err.count("dbp: error: ") == 1
    rank = next(rank for rank in range(ranks) if shard in Shards(6, rank, ranks).mine)
    assert f"  first not finite: {what}\n    rank {rank} on {HOST}; shard {shard}; 1 of" in outcome.err
    assert f"examples: row {row} of the train arrays\n" in outcome.err

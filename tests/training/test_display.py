"""What a run prints of its epochs: a head once, a line for each, and the time left of the run."""

import re

import numpy as np

from dbp.cost.mini_batch import ExampleSums
from dbp.training.display import Display

ROW = {"epoch": 1.0, "step": 4.0, "skipped": 0.0, "cost": 0.5, "accuracy": 0.75, "seconds": 1.0}


def printed(capsys, enabled=True, epochs=3):
    """Return the lines of a run of some epochs of four steps, of which the first is the best."""
    totals = ExampleSums(1.0, 0.5, np.zeros(1))
    with Display(enabled, False, epochs, 4, "cost") as display:
        for epoch in range(epochs):
            display.start_epoch(epoch, 0)
            for _ in range(4):
                display.after_step(10, totals)
            skipped = {"skipped": 2.0} if epoch == 1 else {}
            display.after_epoch(ROW | {"epoch": epoch + 1.0} | skipped, epoch == 0, 1234.5)
    return capsys.readouterr().out.splitlines()


def test_the_head_is_printed_once_and_the_best_epoch_marked(capsys):
    lines = printed(capsys)
    assert [line.split()[:2] for line in lines] == [
        ["*", "best"],
        ["epoch", "cost"],
        ["*", "1/3"],
        ["2/3", "0.5000"],
        ["warning:", "2"],
        ["3/3", "0.5000"],
    ]
    assert re.search(r" 1,23[45]  +\d+\.\d s$", lines[2])  # examples per second, and what is left of the run
    assert lines[5].endswith(" 1,234")  # nothing is left


def test_other_ranks_print_nothing(capsys):
    assert printed(capsys, enabled=False) == []

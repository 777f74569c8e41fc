"""Memory that threads free stays in the process."""

import sys

import pytest

from tests.jobs import run

PROGRAM = """
import resource, threading
import numpy as np
from dbp.parallel import keep_freed_memory
from dbp.parallel.ranks.memory import use_one_arena

accepted = use_one_arena() and keep_freed_memory()
faults = []

def work():
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for size in (1 << 20, 1 << 24):  # of float64: 8 and 128 MB
            np.ones(size)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

for thread in [threading.Thread(target=work) for _ in range(2)]:
    thread.start()
    thread.join()
print(accepted, faults[0], max(faults[1:]))
"""


def test_large_arrays_of_threads_are_allocated_without_new_pages():
    outcome = run(sys.executable, "-c", PROGRAM)
    assert outcome.code == 0, outcome.text
    accepted, first, later = outcome.out.split()
    if accepted == "False":
        pytest.skip("the C library is not glibc")
    assert int(later) < 100, (first, later)

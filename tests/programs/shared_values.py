"""A large array of rank 0 on all ranks: the same numbers, in memory that the ranks of a node share.

Started by tests/parallel/ranks/test_shared_value.py.
"""

from pathlib import Path

import numpy as np

from dbp.parallel import shared_from_rank_0, world

comm = world()
numbers = shared_from_rank_0(comm, lambda: np.arange(1_000_003))
assert numbers.sum() == 1_000_003 * 1_000_002 // 2
address = numbers.ctypes.data
places = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
inside = [words[4] for words in places if int(words[0].split("-")[0], 16) <= address < int(words[0].split("-")[1], 16)]
inodes = comm.gather(inside)
for run in comm.nodes.runs:
    assert all(inodes[rank] == inodes[run[0]] for rank in run), inodes
if comm.rank == 0:
    print("the same on all ranks")

"""Rows of three rounds, of which each rank has some; prints what all ranks have.

Started by tests/parallel/ranks/test_shared_rows.py.
"""

import numpy as np

from dbp.parallel import SharedRows, parts, world

ROWS, WIDTH = 11, 3
comm = world()
rows = SharedRows(comm, ROWS, (WIDTH,), np.dtype(np.float32))
others = SharedRows(comm, ROWS, (), np.dtype(np.int64), "others")
for number, count in enumerate((ROWS, 1, 7)):
    spans = [parts(count, comm.size, rank) for rank in range(comm.size)]
    mine = [np.full((1, WIDTH), 100 * number + row, np.float32) for row in spans[comm.rank]]
    found = rows.all(mine, [len(span) for span in spans])
    numbers = others.all([np.arange(spans[comm.rank].start, spans[comm.rank].stop)], [len(span) for span in spans])
    assert numbers.tolist() == [*range(count)]
    texts = comm.gather(found.tolist())
    assert all(text == [[100.0 * number + row] * WIDTH for row in range(count)] for text in texts), texts
if comm.rank == 0:
    print("equal")

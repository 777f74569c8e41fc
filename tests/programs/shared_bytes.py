"""A print of what the last rank has written to shared memory, as each rank sees it.

Started by tests/parallel/machine/test_shared_memory.py.
"""

from dbp.parallel import world

comm = world()
memory = comm.node.allocate(1000)
assert memory is not None, comm.node.refusal
if comm.rank == comm.size - 1:
    memory.bytes[:] = 7
comm.node.barrier()
assert (memory.bytes == 7).all()
comm.barrier()
if comm.rank == 0:
    print("seen by all")

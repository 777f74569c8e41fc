"""A print of what the last rank has written to shared memory, as each rank sees it."""

from dbp.parallel import world

comm = world()
memory = comm.shared_memory(1000)
assert memory is not None, comm.refused
if comm.rank == comm.size - 1:
    memory.bytes[:] = 7
comm.node_barrier()
assert (memory.bytes == 7).all()
comm.barrier()
if comm.rank == 0:
    print("seen by all")

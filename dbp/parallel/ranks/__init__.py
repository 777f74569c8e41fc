"""The ranks of a job: where they run, how they communicate, and what happens when one fails.

To add an MPI collective:

1. Declare it as an abstract method of `Communicator` in comm.py, and implement it for one rank in `OneProcess`.
2. Implement it in `MPICommunicator` in mpi.py by MPI's nonblocking form, through `complete` of `MPICalls`: a rank that
   waits then leaves its core to others, and notices when a rank has died.
3. All ranks must call it in the same order. Never sum numbers that steer training by it: the order of such a sum
   depends on the ranks, while those of dbp/parallel/sums have the same bits on any number of ranks.
4. Test it in a program of tests/programs on 1, 2, 3 and 5 ranks, and with MPICH.
"""

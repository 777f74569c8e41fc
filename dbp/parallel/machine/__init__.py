"""The machine of this rank: cores, limits, BLAS threads, shared memory."""

"""The memory of all ranks of a node together, before and while a large model is trained; to be started on ranks."""

from __future__ import annotations

import argparse
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from cases import CASES, Case, large_case
from dbp_steps import in_training
from measure import Step, take_first_steps

import dbp
from dbp.parallel import Communicator, world
from dbp.run.run import Run

KINDS = {"all": "Pss:", "private": "Pss_Anon:", "shared": "Pss_Shmem:", "files": "Pss_File:"}
INTERVAL = 0.02  # seconds between two looks
BLAS_SIDE = 4096  # of a matrix that does not fit the memory that BLAS works in
Memory = dict[str, float]  # in MB (10^6 bytes), by kind


def memory_of(processes: list[int]) -> Memory:
    """Return the sum of the proportional set sizes of processes, in which shared memory counts once."""
    total = dict.fromkeys(KINDS, 0.0)
    for process in processes:
        fields = (line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:])
        found = {words[0]: int(words[1]) for words in fields}
        for kind, field in KINDS.items():
            total[kind] += found[field] * 1024 / 1e6
    return total


class Highest:
    """The peak memory of some processes, sampled by a thread within a with statement; not sampled without processes.

    What is held counts if two looks in a row find it: what a process begins to share while another is looked at counts
    too much in one of them.
    """

    def __init__(self, processes: list[int]):
        self.memory = dict.fromkeys(KINDS, 0.0)
        self._processes, self._done = processes, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        def size(memory: Memory) -> float:
            return memory["all"]

        before = self.memory
        while self._processes and not self._done.wait(INTERVAL):
            found = memory_of(self._processes)
            self.memory = max(self.memory, min(before, found, key=size), key=size)
            before = found

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()


def activations(case: Case, itemsize: int) -> int:
    """Return the bytes of activations of a rank: the outputs of all layers, and the cotangents of one layer.

    These are the errors of its outputs after and before the ReLU, and of its inputs.
    """
    widths = [layer.units for layer in case.network]
    return case.batch * (sum(widths) + 3 * max(widths)) * itemsize


def have_blas_take_its_memory() -> None:
    """Have BLAS allocate its packing buffers, which it keeps, by a large matrix product."""
    matrix = np.ones((BLAS_SIDE, BLAS_SIDE), np.float32)
    np.matmul(matrix[: BLAS_SIDE // 8], matrix)


class Watched:
    """The memory of the ranks' node, measured while all of them wait."""

    def __init__(self, comm: Communicator):
        self._comm, everyone = comm, comm.gather(os.getpid())
        self.processes = everyone if comm.rank == 0 else []
        self.found: dict[str, Any] = {}

    def note(self, moment: str) -> None:
        """Record the memory held now; collective."""
        self._comm.barrier()
        self.found[moment] = memory_of(self.processes)
        self._comm.barrier()

    def train(self, case: Case) -> None:
        """Take a few steps of a large case, after those of the smallest network."""
        have_blas_take_its_memory()
        in_training(CASES["mlp-small"], self._comm, lambda step, _run: take_first_steps(step))
        self.note("libraries")
        with Highest(self.processes) as highest:
            in_training(case, self._comm, self._large)
        self.found["highest"] = highest.memory
        self.found["activations"] = activations(case, 4) / 1e6

    def _large(self, step: Step, run: Run) -> None:
        self.note("started")
        take_first_steps(step)
        self.note("trained")
        self.found["vector"] = run.weights.nbytes / 1e6
        self.found["parameters"] = run.layout.size
        self.found["optimizer vectors"] = len(run.state.vectors)
        self.found["weights"] = run.arena.description


def main() -> None:
    """Measure, and write the results on rank 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parameters", type=int, required=True, help="about so many")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file for the results")
    args, comm = parser.parse_args(), world()
    node = Watched(comm)
    node.train(large_case(args.parameters))
    if comm.rank == 0:
        versions = {"dbp": dbp.__version__, "numpy": np.__version__, "MPI": comm.description}
        args.out.write_text(json.dumps({"versions": versions, "results": node.found}))


if __name__ == "__main__":
    main()

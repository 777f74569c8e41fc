"""Time a training step on the ranks of this job: started by ranks_and_threads.py, once for each way to use the cores.

python -m dbp.doctor.timed_step REQUEST.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dbp.checkpoint import digest_arrays
from dbp.config.config_file import uses_own_code
from dbp.config.from_table import read_settings
from dbp.doctor.other_programs import OtherPrograms
from dbp.parallel import Communicator, agree, from_rank_0, world
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run

FIRST_STEPS = 3  # before the timed ones; the weights after them are compared
REPETITIONS = 5
REPETITION_SECONDS = 0.3  # that one takes at least


@dataclass(frozen=True)
class Request:
    """What to time, as the file of a request holds it.

    Args:
        config: the config file.
        changes: of its keys.
        out: a folder for the files of the run.
        shards: of a mini-batch.
        threads: of a rank.
        answer: the file for the answer.
        processors: the numbers of the hardware threads that the ranks may use.
    """

    config: str
    changes: list[str]
    out: str
    shards: int
    threads: int
    answer: str
    processors: list[int]

    def write(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)))


def main(path: Path) -> None:
    """Take the steps of a request, and write their times and the digest of the weights after the first ones."""
    request, comm = Request(**json.loads(path.read_text())), world()
    config = Path(request.config)
    # Objects of the user's classes can be sent to a rank only once it has imported them, so each rank then reads.
    read = agree if from_rank_0(comm, uses_own_code, config, request.changes) else from_rank_0
    settings = replace(read(comm, read_settings, config, request.changes, request.out), shards=request.shards)
    with start_run(replace(settings, threads=request.threads), comm, Start(fresh=True, quiet=True)) as (run, _, _):
        step = _step_of(run)
        for _ in range(FIRST_STEPS):
            step()
        digest = digest_arrays(run.final_weights())
        others = OtherPrograms(comm, request.processors)
        repeats = _repeats(comm, step)
        busy = others.busy()
    if comm.rank == 0:
        Path(request.answer).write_text(json.dumps({"repeats": repeats, "digest": digest, "busy": busy}))


def _step_of(run: Run) -> Callable[[], None]:
    """Return a step on the run's first mini-batch."""
    batch = run.next_batch()

    def step() -> None:
        taken = loop.step(run, batch, run.schedule_steps)
        if taken.done:
            loop.record_step(run, taken)

    return step


def _repeats(comm: Communicator, step: Callable[[], None]) -> list[float]:
    """Return the seconds of a step in each repetition; collective, and rank 0's count."""
    once = comm.broadcast(_repeated(comm, step, 1))
    count = max(1, round(REPETITION_SECONDS / once))
    return [_repeated(comm, step, count) for _ in range(REPETITIONS)]


def _repeated(comm: Communicator, step: Callable[[], None], count: int) -> float:
    """Return the seconds of a step, averaged over some."""
    comm.barrier()
    start = time.perf_counter()
    for _ in range(count):
        step()
    comm.barrier()
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A command of which the last rank is killed when its training comes to a step: killed_training.py STEP WORDS ...

Started by tests/training/test_fit_killed_and_resumed.py and tests/training/test_fit_sparse_embeddings.py.
"""

import os
import signal
import sys
import time

from dbp.cli import main
from dbp.training import loop

last, step = int(sys.argv[1]), loop.step


def dying_step(run, *arguments):
    if run.progress.step == last and run.comm.rank == run.comm.size - 1:
        time.sleep(0.3)  # in which another rank writes its checkpoint
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, *arguments)


loop.step = dying_step
sys.exit(main(sys.argv[2:]))

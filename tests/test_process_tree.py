"""The processes above one, and a process that ends with its parent."""

import os
import signal
import sys

from dbp.process_tree import name_of, parent_of
from tests.processes import ProcessTree, wait_until

CHILD = (
    "import os, signal, time; from dbp.process_tree import ends_with_parent; "
    "ends_with_parent(signal.SIGKILL, os.getppid())(); print('asked', flush=True); time.sleep(600)"
)
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_the_parent_of_this_process_is_known_with_its_name():
    assert parent_of(os.getpid()) == os.getppid()
    assert name_of(os.getppid())


def test_a_process_that_asks_for_it_ends_when_its_parent_is_killed():
    with ProcessTree(sys.executable, "-c", PARENT, CHILD) as tree:
        assert wait_until(lambda: "asked" in tree.out)
        tree.process.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not tree.processes())

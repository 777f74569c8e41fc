"""A thread that ends this process when its parent is gone.

With fault tolerance on, Open MPI does not end a rank when mpirun dies.
"""

from __future__ import annotations

import os
import threading
import time

CHECK_SECONDS = 0.5  # between two checks of the parent


def exit_with_parent(code: int) -> None:
    """Start a thread that ends this process with an exit code as soon as its parent process is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        os._exit(code)

    threading.Thread(target=watch, name="dbp parent process", daemon=True).start()

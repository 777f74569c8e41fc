"""The files in memory through which MPI's ranks of a node exchange messages: they lose their names at the start.

A library removes its files when its ranks end, so killed ranks leave them, 16 MB each with Open MPI. A file without a
name needs no removal: the system frees it with the last rank that maps it, in whatever way the ranks end.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from dbp.parallel.machine.shared_memory import SEGMENT_FOLDER, SHARED_MEMORY

NAMES = ("sm_segment.", "vader_segment.", "mpich_shm_")  # of Open MPI 5 and 4, and of MPICH


def remove_names(node: Any) -> None:
    """Remove the names of the files that all ranks of a node map; collective among them.

    Each rank maps them in MPI_Init. If a rank does not map one, it may still have to open it, so all keep their names.

    Args:
        node: MPI's communicator of these ranks.
    """
    mine = _mapped()
    if any(others != mine for others in node.allgather(mine)):
        return
    for path in map(Path, mine):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            if path.parent.name.startswith(SEGMENT_FOLDER):  # else the user has made it
                path.parent.rmdir()


def _mapped() -> list[str]:
    """Return the files of an MPI library that this process maps and that have a name."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if f" {SHARED_MEMORY}/" in line}
    return sorted(path for path in paths if Path(path).name.startswith(NAMES) and not path.endswith(" (deleted)"))

"""The command line on a rank that is pinned to one core: pinned_command.py CORE WORDS...

Started by tests/doctor/test_examination.py and tests/parallel/ranks/test_placement.py.
"""

import os
import sys

os.sched_setaffinity(0, {int(sys.argv[1])})

from dbp.cli import main  # noqa: E402  after pinning, as threads that libraries start inherit it

sys.exit(main(sys.argv[2:]))

"""The command line on ranks, one of them with a wrong clock: late_clock_command.py RANK SECONDS WORDS...

Started by tests/doctor/test_examination.py.
"""

import sys
import time

from dbp.cli import main
from dbp.parallel import world

right, late = time.time, float(sys.argv[2])
if world().rank == int(sys.argv[1]):
    time.time = lambda: right() + late

sys.exit(main(sys.argv[3:]))

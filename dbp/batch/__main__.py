"""Writes the scripts in launch/: python -m dbp.batch launch."""

import sys
from pathlib import Path

from dbp.batch.examples import example_scripts

for name, text in example_scripts().items():
    (Path(sys.argv[1]) / name).write_text(text)

"""Write the scripts in launch/: python -m dbp.batch launch."""

import sys
from pathlib import Path

from dbp.batch.example_scripts import example_scripts
from dbp.files import write_file

for name, text in example_scripts().items():
    write_file(Path(sys.argv[1]) / name, text.encode())

"""The job of dbp.launch: python -m dbp.notebook.job NOTEBOOK FOLDER OPTIONS starts the ranks, as dbp run does.

NOTEBOOK is the process that waits for it. If that has died, the folder is removed here.
"""

import os
import shutil
import sys

from dbp.cli import main

if __name__ == "__main__":
    notebook, folder, *options = sys.argv[1:]
    try:
        code = main(["run", *options, "--", sys.executable, "-m", "dbp.notebook", folder])
    finally:
        if os.getppid() != int(notebook):
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)

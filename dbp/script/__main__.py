"""Run a Python script as one of the ranks of dbp run: python -m dbp.script SCRIPT ARGUMENTS.

Importing dbp has set the hooks of scripts, so that an exception ends all ranks even before the script imports dbp.
"""

import os
import runpy
import sys


def main() -> None:
    """Run the script as Python would; its exceptions are those of a script, without the frames that have started it."""
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120  as Python does
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except (Exception, KeyboardInterrupt) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != sys.argv[0]:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace or error.__traceback__), trace)
        sys.exit(1)


if __name__ == "__main__":
    main()

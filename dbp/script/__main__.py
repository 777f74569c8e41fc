"""Run a Python script as one of the ranks of dbp run: python -m dbp.script SCRIPT ARGUMENTS.

Importing dbp has set the hooks of scripts, so that an exception ends all ranks even before the script imports dbp.
"""

import atexit
import os
import sys
from pathlib import Path
from types import ModuleType

from dbp.script.hooks import leave


def main() -> None:
    """Run the script as Python would; its exceptions are those of a script, without the frames that have started it."""
    del sys.argv[0]
    name = sys.argv[0]  # which the script may change
    if not sys.flags.safe_path:  # else Python does not look for modules beside a script
        sys.path[0] = os.path.dirname(os.path.abspath(name))  # noqa: PTH100, PTH120  as Python does
    script = sys.modules["__main__"] = ModuleType("__main__")
    script.__file__ = name
    try:
        exec(compile(Path(name).read_bytes(), name, "exec", dont_inherit=True), vars(script))  # noqa: S102
    except SystemExit as end:
        if end.code:  # the launcher ends all ranks, with this code
            atexit.unregister(leave)
        raise
    except (Exception, KeyboardInterrupt) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != name:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace or error.__traceback__), trace)
        sys.exit(1)


if __name__ == "__main__":
    main()

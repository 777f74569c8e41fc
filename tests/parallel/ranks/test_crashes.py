"""Handlers of crashes: Python's take the place of MPI's, and those of the user and of mapped files stay."""

import os
import signal
import sys

import numpy as np

from tests.jobs import launcher
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import run

STARTS = "from dbp.parallel import world; world()"
CRASHES = f"import os, signal; {STARTS}; os.kill(os.getpid(), signal.SIGSEGV)"


def python(code, *, redirected=""):
    """Run Python code as a shell starts it."""
    words = ("sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, code)
    return run(*words, env=os.environ | LAUNCHER_SETTINGS)


def test_a_script_that_starts_mpi_itself_crashes_without_its_handlers():
    launcher()  # skips without an MPI
    outcome = python(f"import mpi4py.MPI; {CRASHES}")
    assert outcome.code == -signal.SIGSEGV
    assert outcome.err.count("Fatal Python error: Segmentation fault") == 1
    assert "Process received signal" not in outcome.err


def test_a_crash_without_stderr_ends_the_process():
    code = f"{STARTS}; import faulthandler; print(faulthandler.is_enabled())"
    assert python(code, redirected="2>&-").out == "True\n"
    assert python(CRASHES, redirected="2>&-").code == -signal.SIGSEGV


def test_a_file_for_tracebacks_that_the_user_has_chosen_is_kept(tmp_path):
    file = tmp_path / "crash"
    outcome = python(f"import faulthandler; file = open({str(file)!r}, 'w'); faulthandler.enable(file); {CRASHES}")
    assert (outcome.code, outcome.err) == (-signal.SIGSEGV, "")
    assert "Fatal Python error: Segmentation fault" in file.read_text()


def test_a_handler_of_the_script_is_kept():
    code = "import signal; signal.signal(signal.SIGSEGV, lambda *_: print('own'))"
    outcome = python(f"{code}; {CRASHES}")
    assert (outcome.code, outcome.out, outcome.err) == (0, "own\n", "")


def test_a_file_that_was_mapped_before_mpi_starts_and_is_cut_off_gives_a_data_error(tmp_path):
    path = tmp_path / "numbers"
    np.zeros((40, 50), np.int32).tofile(path)
    outcome = python(f"""if True:
        import os, numpy as np
        from dbp.data.mapped import Column, open_columns
        column = open_columns({str(path)!r}, {{"x": Column(np.dtype(np.int32), (40, 50), 0)}})["x"]
        {STARTS}
        os.truncate({str(path)!r}, 0)
        try:
            column.read(np.array([30, 2]))
        except Exception as error:
            print(error)
    """)
    assert "the file was cut off to 0 bytes" in outcome.out
    assert (outcome.code, outcome.err) == (0, "")

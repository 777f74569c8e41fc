"""One of the ranks that dbp.launch has started: python -m dbp.notebook FOLDER calls the function in that folder."""

import pickle
import sys
from pathlib import Path

import cloudpickle

from dbp.errors import Interrupted, UserError
from dbp.files import write_file
from dbp.notebook.messages import CALL, INTERRUPTION, RESULT, Call, write_failure
from dbp.process.launcher import launched_rank, launched_size


def main(folder: Path) -> None:
    """Call the function, and write what it returns, or how it has failed."""
    rank, size = launched_rank(), launched_size()
    try:
        call: Call = pickle.loads((folder / CALL).read_bytes())  # noqa: S301  written by the notebook of this user
        result = call.run()
        if rank == 0:
            write_file(folder / RESULT, cloudpickle.dumps(result))
    except Interrupted as error:  # on all ranks; the run has said it
        if rank == 0:
            write_file(folder / INTERRUPTION, cloudpickle.dumps(error.result))
        sys.exit(error.exit_code)
    except Exception as error:
        write_failure(folder, rank, size, error, cloudpickle.dumps)
        if isinstance(error, UserError):
            raise
        # The notebook shows the traceback; here a line tells that the other ranks end.
        raise UserError(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""dbp train: train as a config file says, or resume the run in its folder."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dbp import kernels
from dbp.commands.parser import Parser, add_config, add_restart
from dbp.errors import UsageError
from dbp.text import parse_limit, parse_steps

HELP = "train as a config file says, or resume that training"
ON_RANKS = True


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_restart(parser)
    parser.add_argument("--fresh", action="store_true", help="start from step 0; an earlier run is moved aside")
    parser.add_argument("--overwrite", action="store_true", help="with --fresh: delete the earlier run instead")
    parser.add_argument(
        "--time-limit",
        type=parse_limit,
        metavar="TIME",
        help="save and stop before it: seconds, hours:minutes:seconds, or auto for that of the batch job",
    )
    parser.add_argument(
        "--trace",
        type=parse_steps,
        metavar="FIRST:LAST",
        help="write what all ranks do in these steps to trace.json in the run's folder, for Perfetto",
    )


def run(arguments: Namespace) -> int:
    """Train on all ranks; collective."""
    kernels.use(kernels.configured(Path(arguments.config), arguments.set))  # before anything loads NumPy
    from dbp.config.config_file import uses_own_code
    from dbp.config.from_table import read_run_settings
    from dbp.parallel import agree, from_rank_0, world
    from dbp.run.provenance import check_installation
    from dbp.saving.start import Start
    from dbp.training.fit import train

    if arguments.overwrite and not arguments.fresh:
        raise UsageError("--overwrite deletes an earlier run's checkpoints and goes only with --fresh")
    start = Start(
        fresh=arguments.fresh,
        overwrite=arguments.overwrite,
        retry=arguments.retry,
        accept=tuple(arguments.accept),
        time_limit=arguments.time_limit,
        trace=arguments.trace,
    )
    comm = world()
    check_installation(comm)  # first, as another version of dbp might not understand the settings of rank 0
    config = Path(arguments.config)
    # Objects of the user's classes can be sent to a rank only once it has imported them, so each rank then reads.
    read = agree if from_rank_0(comm, uses_own_code, config, arguments.set) else from_rank_0
    train(read(comm, read_run_settings, config, arguments.set, arguments.out), comm, start)
    return 0

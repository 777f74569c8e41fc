"""dbp submit: submit a training to a cluster's scheduler, in as many jobs as it takes."""

from __future__ import annotations

from argparse import Namespace

from dbp.commands.parser import Parser, add_config, add_restart
from dbp.terminal import print_output

HELP = "train in jobs of a cluster's scheduler until the run is finished"
ON_RANKS = False


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.usage = "dbp submit CONFIG [OPTION ...] [-- OPTION OF THE SCHEDULER ...]"
    parser.passed_on = "options"
    add_config(parser)
    add_restart(parser)
    add = parser.add_argument
    add("--nodes", type=int, default=1, metavar="N", help="nodes of each job (default: 1)")
    add("--ranks-per-node", type=int, default=1, metavar="R", help="ranks on each node (default: 1)")
    add("--time", metavar="TIME", help="time limit of each job: hours:minutes:seconds, or seconds")
    add("--threads", type=int, metavar="T", help="threads and cores of a rank (default: the config's)")
    add("--scheduler", metavar="NAME", help="slurm, pbs, lsf, flux, kubernetes or mpirun (default: the one found here)")
    add("--name", metavar="NAME", help="name of the job (default: dbp- and the config's name)")
    add("--account", metavar="NAME", help="account that the job is charged to")
    add("--queue", "--partition", metavar="NAME", help="queue or partition of the scheduler")
    add("--most-jobs", type=int, default=20, metavar="N", help="jobs that may follow one another (default: 20)")
    add("--image", metavar="NAME", help="Kubernetes: image with dbp and MPI")
    add("--claim", metavar="NAME", help="Kubernetes: claim to a volume that all pods share")
    add("--dry-run", action="store_true", help="print the script and submit nothing")


def run(arguments: Namespace) -> int:
    """Submit the job and print what was submitted."""
    from dbp.batch.request import Request
    from dbp.batch.submit import submit

    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    lists = {name: tuple(options[name]) for name in ("set", "accept", "options")}
    print_output(submit(Request(**{**options, **lists})))
    return 0

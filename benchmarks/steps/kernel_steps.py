"""The processor time of steps of dbp.fit with some kernels: kernel_steps.py KERNELS ...; to be started on one rank."""

from __future__ import annotations

import statistics
import sys
import time

from dbp import kernels

KERNELS = sys.argv.pop(1)
kernels.use(KERNELS)  # before anything loads NumPy

from dbp_steps import in_training  # noqa: E402
from measure import Report, Step, take_first_steps  # noqa: E402

import dbp  # noqa: E402
from dbp.parallel import Kernels, world  # noqa: E402
from dbp.run.run import Run  # noqa: E402


def milliseconds(step: Step, steps: int, repeats: int) -> float:
    """Return the processor time of a step, the median over repetitions of some steps."""
    take_first_steps(step)
    found = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(steps):
            step()
        found.append((time.process_time() - start) / steps)
    return statistics.median(found) * 1e3


def main() -> None:
    """Measure each case in turn."""
    report, comm, here = Report(__doc__), world(), Kernels.in_force()
    kernels.check(KERNELS, here.blas, here.cpu_features.split())
    report.versions = {"dbp": dbp.__version__, KERNELS: f"{here.blas}; {here.cpu_features}", "numpy": here.numpy}
    measured = report.results[KERNELS] = {}
    for name, case in report.cases.items():

        def action(step: Step, _run: Run, name: str = name, steps: int = case.steps) -> None:
            measured[name] = {"ms": milliseconds(step, steps, report.args.repeats)}

        in_training(case, comm, action)
    report.write(comm)


if __name__ == "__main__":
    main()

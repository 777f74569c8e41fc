"""The time of steps of dbp.fit by the number of shards, summed in the fixed order, and in turn.

A name such as mlp/4 stands for a case, with four shards per rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

from cases import CASES, Case
from dbp_steps import in_training
from dbp_versions import versions_of
from measure import Report, Step

from dbp.blas import blas_threads
from dbp.parallel import SumBuffer, world
from dbp.parallel.sums import shared_buffers
from dbp.run.run import Run


@dataclass(frozen=True)
class Cut:
    """A case, and the number of shards per rank."""

    case: Case
    shards: int

    @classmethod
    def of(cls, name: str) -> Cut:
        """Return the cut of a name."""
        case, _, shards = name.partition("/")
        return cls(CASES[case], int(shards))

    @property
    def steps(self) -> int:
        """Return the number of steps in a repetition."""
        return self.case.steps


class InTurn:
    """A replacement for the tree that adds the shards of a rank in their order to the first."""

    def __init__(self, recycle: Callable[[SumBuffer], None], separate: int | None):
        del separate
        self.branches: list[tuple[int, int, SumBuffer]] = []
        self._recycle = recycle

    def push(self, level: int, index: int, part: SumBuffer) -> None:
        """Add the next shard."""
        if not self.branches:
            self.branches.append((level, index, part))
            return
        first = self.branches[0][2]
        first += part
        self._recycle(part)


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Sum the shards of each rank in turn, on one node, within a with statement."""
    one_part = mock.patch.object(shared_buffers, "_remaining", lambda span, _nodes: [(0, span.start)] if span else [])
    with one_part, mock.patch.object(shared_buffers, "TreeSum", InTurn):
        yield


def main() -> None:
    """Measure each case in both orders."""
    report, comm = Report(__doc__, Cut.of), world()
    with blas_threads(1):
        report.versions = versions_of(comm)
        for name, cut in report.cases.items():
            for variant, order in (("tree", contextlib.nullcontext()), ("in turn", in_turn())):

                def action(step: Step, _run: Run, name: str = name, variant: str = variant) -> None:
                    report.add(variant, name, step, comm)

                with order:
                    in_training(cut.case, comm, action, shards=cut.shards * comm.size)
    report.write(comm)


if __name__ == "__main__":
    main()

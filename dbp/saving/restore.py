"""A run's state, brought back: from the newest whole checkpoint of its folder, or from memory of ranks that live."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.errors import UserError
from dbp.nn import running_arrays
from dbp.parallel import agree, from_rank_0
from dbp.run.state import Run
from dbp.saving.folder import RunFolder
from dbp.saving.resume import (
    UNSENT_WEIGHT,
    Comparison,
    Earlier,
    check_arrays,
    check_same_run,
    none_whole,
    unsent_names,
)
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.checkpoint import Opened


class Restorer:
    """Brings back the state of a run; its methods are collective.

    Args:
        run: whose state it is.
        folder: where its checkpoints are.
        say: what a line is said with.
    """

    def __init__(self, run: Run, folder: RunFolder, say: Callable[[str], None]):
        self._run, self._comm, self._folder, self._say = run, run.comm, folder, say
        self._source: Opened | None = None  # what is restored from, on rank 0

    def resume(self, earlier: Earlier, accept: Sequence[str]) -> tuple[Path, ...]:
        """Take up the newest whole checkpoint, and say so; gives the files that were passed over.

        Args:
            earlier: that checkpoint, as it was found at the start.
            accept: settings that may differ from it.

        Raises:
            UserError: it is one of another run.
            DataError: none is whole.
        """
        run, progress, say = self._run, self._run.progress, self._say
        comparison = Comparison.between(earlier, run.settings, run.shards.count, run.digests)
        agree(self._comm, check_same_run, earlier, comparison, accept)
        agree(self._comm, self._check_arrays, earlier)
        path, passed_over = self.restore()
        changes = [*comparison.free.values(), *comparison.wrong.values(), *self._other_ranks(earlier)]
        if progress.finished:
            how = progress.outcome or "raise epochs to go on from it, or start anew with --fresh"
            say(f"{path} is finished: {how}")
        else:
            say(f"resumed from {path} at epoch {progress.epoch + 1}, step {progress.step}")
            if run.settings.optimizer.forgets:
                say(f"note: {run.settings.optimizer.forgets}")
        if changes:
            say(f"note: what differs from the run so far: {'; '.join(changes)}")
        if (was := earlier.provenance.get("blas")) != run.blas:
            say(f"warning: the checkpoint was made with {was}: from here on, bits may differ from its run's")
        return passed_over

    def _other_ranks(self, earlier: Earlier) -> list[str]:
        was = earlier.provenance.get("ranks")
        return [] if was == self._comm.size else [f"ranks: {was} in the checkpoint, {self._comm.size} now"]

    def restore(self, until: int | None = None) -> tuple[Path, tuple[Path, ...]]:
        """Bring back the state in the newest whole checkpoint; gives its name, and files that cannot be used.

        It is said why these cannot.

        Args:
            until: a step; no checkpoint from after it is looked at.

        Raises:
            DataError: there is none, or it is not one of this run.
        """
        run, comm = self._run, self._comm
        with contextlib.ExitStack() as stack:
            path, passed_over, small, progress = from_rank_0(comm, self._open, stack, until)
            self._fill(run.weights, "model")
            for name, vector in run.state.vectors.items():
                self._fill(vector, f"optimizer/{name}")
            self._fill_unsent(progress.get(UNSENT_WEIGHT, 1.0))
            self._source = None
        take_up(run, small, progress)
        for text in passed_over.values():
            self._say(f"warning: {text}; an older one is used, and this one kept with another name")
        return path, tuple(passed_over)

    def _open(
        self, stack: contextlib.ExitStack, until: int | None
    ) -> tuple[Path, dict[Path, str], dict[str, Array], Mapping[str, Any]]:
        checkpoints = self._folder.checkpoints
        newest = stack.enter_context(checkpoints.newest(lambda found: self._refuse(Earlier.of(found)), until=until))
        if newest.found is None:
            raise none_whole(self._run.settings, list(newest.passed_over.values()))
        self._source = found = newest.found
        large = {f"model/{name}" for name in self._run.layout.shapes}
        names = [name for name in found.entries if name not in large and not name.startswith("optimizer/")]
        return found.path, newest.passed_over, {name: found.array(name) for name in names}, found.progress

    def _check_arrays(self, earlier: Earlier) -> None:
        if reason := self._refuse(earlier):
            raise UserError(
                f"checkpoint {earlier.path} is of another run ({reason}); start anew with --fresh, or choose another "
                "folder with --out"
            )

    def _refuse(self, earlier: Earlier) -> str | None:
        """Why a checkpoint is not one of this run: then its arrays are not even read."""
        run = self._run
        arrays = {f"model/{name}": array for name, array in run.model_arrays(run.weights).items()}
        for vector in (*run.state.vectors, *unsent_names(earlier.arrays, len(run.layout.shapes))):
            arrays |= {f"optimizer/{vector}/{name}": array for name, array in run.layout.views(run.weights).items()}
        return check_arrays(earlier, {name: (array.dtype.str, array.shape) for name, array in arrays.items()})

    def _fill(self, vector: Array, group: str) -> None:
        """Bring back a vector, which rank 0 reads for all."""
        arena = self._run.arena
        whole = np.empty_like(vector) if arena.divided and self._comm.rank == 0 else vector
        from_rank_0(self._comm, self._read, whole, group)
        arena.dispersed(whole, vector)

    def _fill_unsent(self, weight: float) -> None:
        """Bring back what nodes had not sent of their gradients."""
        run, gradients = self._run, self._run.objective.gradients
        names = from_rank_0(self._comm, self._unsent_names)
        whole = np.empty(run.layout.size if names and self._comm.rank == 0 else 0, run.weights.dtype)

        def residuals() -> Iterator[Array]:
            for name in names:
                from_rank_0(self._comm, self._read, whole, f"optimizer/{name}")
                yield whole

        gradients.restore(weight, residuals())
        count = gradients.residual_count
        if len(names) not in (0, count):
            where = f"is shared out to {count}" if count > 1 else "is added to the next gradient"
            self._say(f"note: what {len(names)} nodes had not sent of their gradients {where}")

    def _unsent_names(self) -> list[str]:
        assert self._source is not None
        return unsent_names(self._source.entries, len(self._run.layout.shapes))

    def _read(self, whole: Array, group: str) -> None:
        assert self._source is not None
        for name, view in self._run.layout.views(whole, writable=True).items():
            self._source.read_into(f"{group}/{name}", view)


class Memory:
    """The state of a run that has lost ranks, as rank 0 of those that live has it; only restore() is collective.

    Args:
        vectors: the weights, and those of the optimizer; nothing but on rank 0.
        small: all other arrays by their names in a checkpoint.
        progress: where the run stands.
    """

    def __init__(
        self,
        vectors: Sequence[Array] = (),
        small: Mapping[str, Array] | None = None,
        progress: Mapping[str, Any] | None = None,
    ):
        self._vectors, self._small, self._progress = vectors, small or {}, progress or {}

    @property
    def held(self) -> bool:
        """Whether it is here."""
        return len(self._vectors) > 0

    @classmethod
    def of(cls, run: Run) -> Memory | None:
        """What this rank has, copied; None if that is not the state after a step.

        It is not if a rank died while changing it, nor without what the dead had not sent of their gradients.
        """
        if not run.arena.whole or run.objective.gradients.residual_count:
            return None
        arrays = {f"model/{name}": array for name, array in running_arrays(run.running).items()}
        arrays |= {f"method/{name}": array for name, array in run.state.numbers.items()}
        small = {name: array.copy() for name, array in arrays.items()}
        small |= {f"history/{name}": array for name, array in run.progress.history_arrays().items()}
        vectors = [vector.copy() for vector in (run.weights, *run.state.vectors.values())]
        # That the run has come to its end is not yet saved.
        return cls(vectors, small, run.progress.to_attributes() | {"finished": False})

    def restore(self, run: Run) -> None:
        """Bring it back."""
        vectors = [run.weights, *run.state.vectors.values()]
        for vector, kept in zip(vectors, self._vectors or vectors, strict=True):
            run.arena.dispersed(kept, vector)
        take_up(run, *from_rank_0(run.comm, lambda: (self._small, self._progress)))


def take_up(run: Run, small: Mapping[str, Array], progress: Mapping[str, Any]) -> None:
    """Bring back all but the vectors.

    Args:
        run: whose state it is.
        small: other arrays by their names in a checkpoint.
        progress: where the run stood.
    """
    for name, array in running_arrays(run.running).items():
        array[...] = small[f"model/{name}"]
    run.state.numbers.update({name[7:]: array for name, array in small.items() if name.startswith("method/")})
    run.state.derived.clear()
    history = {name[8:]: array for name, array in small.items() if name.startswith("history/")}
    run.progress.restore(progress, history)
    if run.progress.epoch < run.settings.epochs and not run.progress.outcome:
        run.progress.finished = False

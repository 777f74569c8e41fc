"""The checkpoints of a run in a folder: saved one by one, the newest undamaged one found, old ones removed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from dbp.checkpoint.format import StoredCheckpoint
from dbp.checkpoint.reading import Opened, opened, too_large
from dbp.checkpoint.writing import write
from dbp.errors import DataError, StorageError, UserError
from dbp.files import Action, no_pause, reading_from, write_file, writing_to

NAME = re.compile(r"step-(\d+)\.h5")
BEST = "best.h5"  # the weights of the best epoch alone
DAMAGED = ".damaged"  # added to the names of files that cannot be used, so that they are kept


@dataclass(frozen=True)
class Keep:
    """The rule by which checkpoints are kept.

    Args:
        last: how many of the newest are kept.
        every: checkpoints whose steps are multiples of this are kept too; 0 for none.
    """

    last: int
    every: int = 0


@dataclass
class Newest:
    """The newest checkpoint that can be used, if there is one.

    Args:
        found: the checkpoint, open for reading.
        passed_over: newer files that cannot be used, each with the reason.
    """

    found: Opened | None = None
    passed_over: dict[Path, str] = field(default_factory=dict)


class CheckpointFolder:
    """The checkpoints of one run, named by their step."""

    def __init__(self, path: Path, keep: Keep):
        self.path, self._keep = path, keep

    def files(self) -> list[Path]:
        """Return the files of the checkpoints, oldest first; none if there is no folder.

        Raises:
            StorageError: the folder exists but cannot be read, so that it must not pass for an empty one.
        """
        with reading_from(self.path):
            try:
                found = list(self.path.iterdir())
            except (FileNotFoundError, NotADirectoryError):
                found = []
        return sorted((path for path in found if NAME.fullmatch(path.name)), key=step_of)

    def prepare(self, damaged: tuple[Path, ...] = ()) -> None:
        """Create the folder, try to write to it, remove what a killed save left, rename damaged files."""
        with writing_to(self.path, "; see --out for another folder"):
            self.path.mkdir(parents=True, exist_ok=True)
            for partial in self.path.glob(".*.partial"):
                partial.unlink()
            for path in damaged:
                name = path.name + DAMAGED
                names = (path.with_name(f"{name}-{number}" if number > 1 else name) for number in count(1))
                path.rename(_unused(names))
            probe = self.path / ".probe"
            write_file(probe, b"")
            probe.unlink()

    def path_of(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return self.path / f"step-{step:09d}.h5"

    def save(self, checkpoint: StoredCheckpoint, step: int, pause: Action = no_pause) -> Path:
        """Write a checkpoint and return its path; raise StorageError if it cannot be written; see write()."""
        path = self.path_of(step)
        write(path, checkpoint, pause=pause)
        return path

    @property
    def best(self) -> Path:
        """Return the path of the weights of the best epoch."""
        return self.path / BEST

    @property
    def has_best(self) -> bool:
        """Return True if there are weights of the best epoch; raise StorageError if the system does not tell."""
        with reading_from(self.best):
            return self.best.exists()

    def save_best(self, best: StoredCheckpoint | None, pause: Action = no_pause) -> None:
        """Write the weights of the best epoch, or remove those of an earlier one for None; see write().

        Raises:
            StorageError: that failed; an earlier file is unchanged.
        """
        if best is not None:
            write(self.best, best, pause=pause)
            return
        with writing_to(self.best):
            self.best.unlink(missing_ok=True)

    def tidy(self, newest: Path, others: Collection[int] = ()) -> None:
        """Remove the checkpoints that need not be kept.

        Args:
            newest: the last saved file, which is kept.
            others: steps of other checkpoints to keep.

        Raises:
            StorageError: the folder could not be changed.
        """
        with writing_to(self.path):
            for old in self._superfluous(newest, others):
                old.unlink()

    def _superfluous(self, newest: Path, steps: Collection[int]) -> Iterator[Path]:
        files = self.files()
        kept = {newest, *files[-self._keep.last :]}
        for path in files:
            step = step_of(path)
            if path not in kept and step not in steps and not (self._keep.every and step % self._keep.every == 0):
                yield path

    def drop_later(self, step: int) -> None:
        """Remove the checkpoints of later steps, and the best weights, which may be of one; the next save writes them.

        Raises:
            StorageError: the folder could not be changed.
        """
        with writing_to(self.path):
            for path in self.files():
                if step_of(path) > step:
                    path.unlink()
        self.save_best(None)

    @contextlib.contextmanager
    def newest(
        self,
        refuse: Callable[[Opened], str | None] = lambda _: None,
        verify: bool = True,
        until: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[Newest]:
        """Find the newest undamaged checkpoint, and why newer ones were passed over.

        Args:
            refuse: returns why a checkpoint of sound structure is not to be used; called before its arrays are read.
            verify: whether the values of its arrays are verified, which takes as long as reading them.
            until: the last step to consider; by default all.
            check: called before each piece of an array is read; raises what ends that.
        """
        newest = Newest()
        with contextlib.ExitStack() as stack:
            for path in reversed([p for p in self.files() if until is None or step_of(p) <= until]):
                with contextlib.ExitStack() as attempt:
                    try:
                        found = replace(attempt.enter_context(opened(path)), check=check)
                        if reason := refuse(found):
                            raise DataError(f"checkpoint {path} cannot be used: {reason}")
                        if verify:
                            found.verify()
                    except UserError as error:
                        newest.passed_over[path] = str(error)
                        continue
                    newest.found = found
                    stack.enter_context(attempt.pop_all())
                    break
            yield newest

    def set_aside(self) -> Path | None:
        """Rename the folder if it holds checkpoints; return its new name."""
        if not self.files():
            return None
        aside = _unused(self.path.with_name(f"{self.path.name}-old-{number}") for number in count(1))
        with writing_to(aside):
            self.path.rename(aside)
        return aside

    def delete(self) -> int:
        """Delete the checkpoints; return how many there were."""
        files = self.files()
        with writing_to(self.path):
            self.best.unlink(missing_ok=True)
            for path in files:
                path.unlink()
        return len(files)


def _unused(names: Iterable[Path]) -> Path:
    """Return the first name that no file has."""
    return next(name for name in names if not os.path.lexists(name))


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def checkpoints_of(path: Path) -> CheckpointFolder:
    """Return the checkpoints of a run, given its folder or the folder of its checkpoints."""
    return CheckpointFolder(path / "checkpoints" if _is_folder(path / "checkpoints") else path, Keep(1))


def _is_folder(path: Path) -> bool:
    """Return True if a path leads to a folder; raise StorageError if the system does not tell."""
    with reading_from(path):
        return path.is_dir()


def all_of(path: Path) -> list[Path]:
    """Return a checkpoint, or all of a run's, oldest first and the best weights last; raise UserError if none is."""
    files = files_of(path)
    if not files:
        raise UserError(f"folder {path} holds no checkpoint")
    return files


def files_of(path: Path) -> list[Path]:
    """Return the path of a checkpoint, or those of all of a run's, oldest first and the best weights last."""
    if not _is_folder(path):
        return [path]
    folder = checkpoints_of(path)
    return [*folder.files(), *([folder.best] if folder.has_best else [])]


def verdict(path: Path) -> tuple[str, bool]:
    """Return a line about a checkpoint, and whether it is undamaged; raise UserError if it does not exist."""
    try:
        with opened(path) as found:
            found.verify()
            return f"{path}: intact, step {found.progress.get('step')}, {found.size:,} bytes in arrays", True
    except (DataError, StorageError) as error:
        return str(error), False


@contextlib.contextmanager
def find(path: Path, last: bool = False) -> Iterator[Opened]:
    """Open the checkpoint in a file, or of a run's folder the newest undamaged one at the best epoch of the run.

    Args:
        path: a file, or the folder of a run.
        last: whether a folder stands for the last step of its newest checkpoint; see Opened.at_best_epoch().

    Raises:
        UserError: there is none.
        DataError: all are damaged.
    """
    if not _is_folder(path):
        with opened(path) as found:
            yield found
        return
    with checkpoints_of(path).newest(too_large) as newest:
        if newest.found is None and newest.passed_over:
            raise DataError(f"folder {path} holds no intact checkpoint: {'; '.join(newest.passed_over.values())}")
        if newest.found is None:
            raise UserError(f"folder {path} holds no checkpoint")
        yield newest.found if last else newest.found.at_best_epoch()

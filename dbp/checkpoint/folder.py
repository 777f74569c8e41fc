"""A run's checkpoints in a folder: committed one by one, the newest whole one found, old ones removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dbp.checkpoint.format import Checkpoint, read, to_image
from dbp.errors import UserError


def commit(path: Path, content: bytes) -> None:
    """Write a file such that at any instant either the old or the whole new one bears its name."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name outlives a power cut
    finally:
        os.close(folder)


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns what the system says when a file cannot be written into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; see --out for another folder") from None


class CheckpointFolder:
    """The checkpoints of one run, named by their step."""

    def __init__(self, path: Path, keep: int):
        self.path, self._keep = path, keep

    def files(self) -> list[Path]:
        """The committed checkpoints, oldest first."""
        return sorted(self.path.glob("step-*.h5"))

    def prepare(self) -> None:
        """Make the folder, show that it can be written to, and remove what a killed save left behind."""
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for partial in self.path.glob(".step-*.partial"):
                partial.unlink()
            probe = self.path / ".probe"
            commit(probe, b"")
            probe.unlink()

    def save(self, checkpoint: Checkpoint, step: int) -> Path:
        """Commit a checkpoint, then remove those beyond the number to keep."""
        path = self.path / f"step-{step:09d}.h5"
        with writing_to(path):
            commit(path, to_image(checkpoint))
            for old in self.files()[: -self._keep]:
                if old != path:
                    old.unlink()
        return path

    def commit_beside(self, name: str, text: str) -> None:
        """Commit a text file of the run, beside the folder of its checkpoints."""
        path = self.path.parent / name
        with writing_to(path):
            commit(path, text.encode())

    def newest(self) -> tuple[Path | None, Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and why newer ones were passed over."""
        passed_over: list[str] = []
        for path in reversed(self.files()):
            try:
                return path, read(path), passed_over
            except UserError as error:
                passed_over.append(str(error))
        return None, None, passed_over

    def set_aside(self) -> Path | None:
        """Move the folder to a new name beside it, if there is anything in it; gives that name."""
        if not self.files():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}-old-{number}")).exists():
            number += 1
        with writing_to(aside):
            self.path.rename(aside)
        return aside

    def delete(self) -> int:
        """Delete the run's checkpoints; gives how many there were."""
        files = self.files()
        with writing_to(self.path):
            for path in files:
                path.unlink()
        return len(files)


def find(path: Path) -> tuple[Path, Checkpoint]:
    """The checkpoint in a file, or the newest whole one of a run's folder; UserError if there is none."""
    if not path.is_dir():
        return path, read(path)
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found, checkpoint, passed_over = CheckpointFolder(folder, keep=1).newest()
    if found is None or checkpoint is None:
        reasons = f": {'; '.join(passed_over)}" if passed_over else ""
        raise UserError(f"folder {path} holds no whole checkpoint{reasons}")
    return found, checkpoint

"""What the folder of a run tells about it: the one reader of reports, plots and comparisons.

The folder may be of a run that goes on, damaged, incomplete or hostile. Nothing outside of it is read, as links are not
followed; files have a limit; and what cannot be read becomes a line in `missing`.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dbp.batch.status import RunStatus
from dbp.checkpoint import opened, step_of, table_of
from dbp.checks import MAX_CONFIG_BYTES
from dbp.config.config_file import RUN_CONFIG
from dbp.data import Meaning, role_of
from dbp.errors import DataError, UserError
from dbp.log import LOGS
from dbp.plain_files import open_plain, read_plain
from dbp.report.history import History
from dbp.report.trace import Span, spans_in
from dbp.saving.checkpoint_info import CheckpointInfo
from dbp.saving.folder import STATUS_FILE
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

MAX_TABLE_BYTES, MAX_LOG_BYTES = 1 << 22, 1 << 20  # of timing.csv and history.csv; of the end of a log
MAX_COLUMN_BYTES = 1 << 25  # of a column of the history, and of a table such as the confusion matrix
MAX_TRACE_BYTES = 1 << 23
MAX_TABLES, MAX_RANKS, MAX_FIELDS = 100, 1 << 16, 500
MOST_TRIES = 5  # at checkpoints that turn out to be damaged
# Letters that are kept of names of classes, hosts and columns, of a value of the provenance, of a line in `missing`.
MOST_NAME, MOST_VALUE, MOST_REASON = 60, 300, 500
MOST_CLASSES, MOST_PROVENANCE = 1 << 16, 100
TABLES, TRACE = "tables/", "trace.json"
LONGEST = 1e15  # seconds of a stage, bytes of memory
TIMES, AT_ITS_END = "timing.csv", " yet; a run writes it at its end"
OF_EPOCH = "tables/epoch/"  # sums of the epoch under way, which are no results
FILES = (STATUS_FILE, RUN_CONFIG, "history.csv", "checkpoints")  # one of which makes a folder that of a run
Read = TypeVar("Read")


@dataclass(frozen=True)
class RankTimes:
    """What a rank did, as timing.csv has it.

    Args:
        rank: its number.
        host: where it ran.
        seconds: by stage.
        memory: the most memory that it had, in bytes; 0 if it is not known.
    """

    rank: int
    host: str
    seconds: Mapping[str, float]
    memory: float = 0.0


@dataclass
class RunRecord:
    """What is known of a run.

    Args:
        path: its folder.
        name: what it is called: the name of the folder, or its path where runs that are shown together share that.
        status: its state; None if it has written none.
        history: costs and metrics, epoch by epoch.
        config: its settings, as a nested table.
        config_text: the same as TOML.
        progress: counts and sums of the checkpoint that was read, by name.
        provenance: what that was made with.
        meaning: what the numbers of its training data mean.
        tables: matrices of the last evaluation, by name, such as validation/confusion_matrix.
        checkpoint: the name of the checkpoint that was read; "" if there was none.
        ranks: what each rank did.
        log: the lines at the end of the log of rank 0.
        trace: what ranks did in the steps that were traced.
        missing: a line about each thing that could not be read.
    """

    path: Path
    name: str = ""
    status: RunStatus | None = None
    history: History = field(default_factory=lambda: History(0, {}, {}, {}))
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    meaning: Meaning = field(default_factory=dict)
    tables: dict[str, Array] = field(default_factory=dict)
    checkpoint: str = ""
    ranks: Sequence[RankTimes] = ()
    log: Sequence[str] = ()
    trace: Sequence[Span] = ()
    missing: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> RunRecord:
        """Read the folder of a run.

        Raises:
            UserError: it is no folder, or no run has written into it.
        """
        if not any(os.path.lexists(path / name) for name in FILES):
            folder = f"folder {path} holds no run" if path.is_dir() else f"there is no folder {path}"
            what = f"{path} is a file" if path.is_file() else folder
            raise UserError(f"{what}; give the folder of a run (out)")
        record = cls(path, path.resolve().name)
        with record.or_missing("the state of the run", UserError):
            record.status = RunStatus.of(path)
        record._read_checkpoint()
        if not record.checkpoint:
            record._read_without_checkpoint()
        record.ranks = record._read(TIMES, "time by rank", _rank_times) or ()
        record.log = _log_lines(path, record)
        if os.path.lexists(path / TRACE):
            record.trace = record._read(TRACE, "the timeline", spans_in, MAX_TRACE_BYTES) or ()
        return record

    @property
    def state(self) -> str:
        """Return the state of the run in one word."""
        return "unknown" if self.status is None else self.status.state

    @property
    def best_by(self) -> str:
        """Return the column of the history that decides which epoch is the best."""
        stored = self.progress.get("best_by")
        if isinstance(stored, str) and stored in self.history.series:
            return stored
        section = self.config.get("early_stopping")  # of a run without a checkpoint
        named = section.get("metric") if isinstance(section, Mapping) else None
        default = "validation_cost" if "validation_cost" in self.history.series else "cost"
        return named if isinstance(named, str) and named in self.history.series else default

    @property
    def best_epoch(self) -> int:
        """Return the number of the best epoch; 0 if there is none."""
        found = self.progress.get("best_epoch", 0)
        return found if isinstance(found, int) and self.history.best else 0

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of the classes of the only target without a name; empty if they are not known."""
        return self.classes_by_target.get("", ())

    @property
    def classes_by_target(self) -> dict[str, Sequence[str]]:
        """Return the names of the classes of each target, by its name, as far as they are known."""
        known = {name: what.classes for name, what in self.meaning.items() if role_of(name) == "targets"}
        return {
            name.removeprefix("targets").removeprefix("."): [one[:MOST_NAME] for one in classes[:MOST_CLASSES]]
            for name, classes in known.items()
            if classes
        }

    @contextmanager
    def or_missing(self, what: str, *errors: type[Exception]) -> Iterator[None]:
        """Note that something is missing, and why, instead of raising an error."""
        try:
            yield
        except errors as error:
            self.missing.append(f"{what}: {error}"[:MOST_REASON])

    # --- from the newest checkpoint ---------------------------------------------------------------------

    def _read_checkpoint(self) -> None:
        """Read the newest checkpoint that can be read."""
        folder = self.path / "checkpoints"
        files = self._checkpoints(folder)
        for file in files[:MOST_TRIES]:
            with self.or_missing(f"checkpoint {file.name}", UserError), _plain(file) as found:
                self._take(found)
                self.checkpoint = file.name
                break

    def _checkpoints(self, folder: Path) -> list[Path]:
        from dbp.checkpoint import checkpoints_of

        if folder.is_symlink():
            self.missing.append("the checkpoints: their folder is a link, which is not followed")
            return []
        files: list[Path] = []
        with self.or_missing("the checkpoints", UserError):
            files = sorted(checkpoints_of(self.path).files(), key=step_of, reverse=True)
        return [file for file in files if file.parent == folder]

    def _take(self, found: Opened) -> None:
        info = CheckpointInfo.of(found)
        names = (name.removeprefix("history/") for name in info.arrays if name.startswith("history/"))
        columns = [name for name in names if len(name) <= MOST_NAME]
        self.history = History.of(
            columns, lambda name: _small(found, f"history/{name}"), int(info.progress["best_epoch"])
        )
        self.config, self.config_text, self.meaning = info.settings, found.config, info.meaning
        self.progress = info.progress
        kept = list(info.provenance.items())[:MOST_PROVENANCE]
        self.provenance = {name[:MOST_NAME]: _cut(value, MOST_VALUE) for name, value in kept}
        self._take_tables(found)

    def _take_tables(self, found: Opened) -> None:
        names = (name for name in found.entries if name.startswith(TABLES) and not name.startswith(OF_EPOCH))
        for name in list(names)[:MAX_TABLES]:
            with self.or_missing(name, DataError):
                self.tables[name.removeprefix(TABLES)] = _small(found, name)

    # --- from the files beside it ------------------------------------------------------------------------

    def _read_without_checkpoint(self) -> None:
        """Read the history and the config from the text files that a run writes beside its checkpoints."""
        self.missing.append("checkpoints: none could be read, so history and config are those of the files beside them")
        columns = self._read("history.csv", "the history", _columns) or {}
        self.history = History.of([*columns], columns.__getitem__, 0)
        self.config_text = self._read(RUN_CONFIG, "the config", str, MAX_CONFIG_BYTES) or ""
        with self.or_missing("the config", DataError):
            self.config = table_of(self.config_text)

    def _read(self, name: str, what: str, parse: Callable[[str], Read], most: int = MAX_TABLE_BYTES) -> Read | None:
        """Return what a text file of the folder holds; None if it cannot be read."""
        try:
            return parse(read_plain(self.path / name, most))
        except FileNotFoundError:
            self.missing.append(f"{what}: there is no {name}{AT_ITS_END if name == TIMES else ''}")
        except (OSError, ValueError, csv.Error) as error:
            self.missing.append(f"{what}: {name} cannot be read: {error}")
        return None


def records_of(paths: Sequence[Path]) -> list[RunRecord]:
    """Read the folders of some runs, and give those of the same name their paths for names."""
    records = [RunRecord.of(path) for path in paths]
    counts = Counter(record.name for record in records)
    for record in records:
        if counts[record.name] > 1:
            record.name = str(record.path)
    return records


@contextmanager
def _plain(path: Path) -> Iterator[Opened]:
    """Open a checkpoint; raise DataError if it is a link, a pipe or a device."""
    try:
        os.close(open_plain(path, os.O_RDONLY))
    except OSError as error:
        raise DataError(f"{error}") from None
    with opened(path) as found:
        yield found


def _small(found: Opened, name: str) -> Array:
    """Read an array; raise DataError if it is too large to show."""
    entry = found.entries[name]
    if entry.size > MAX_COLUMN_BYTES:
        raise DataError(f"{name} takes {entry.size:,} bytes, too many to show")
    return found.array(name)


def _cut(value: Any, most: int) -> Any:
    return value[:most] if isinstance(value, str) else value


def _csv_rows(text: str) -> Iterator[dict[str, str]]:
    """Yield the rows of comma-separated values by the names in the first one; cells that are missing are left out."""
    rows = csv.reader(io.StringIO(text, newline=""))
    head = [name[:MOST_NAME] for name in next(rows, [])[:MAX_FIELDS]]
    for row in rows:
        yield dict(zip(head, row, strict=False))


def _number(text: str) -> float:
    """Return a text as a number; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _columns(text: str) -> dict[str, Array]:
    """Return the columns of comma-separated numbers by name."""
    found: dict[str, list[float]] = {}
    for row in _csv_rows(text):
        for name, cell in row.items():
            found.setdefault(name, []).append(_number(cell))
    return {name: np.array(numbers) for name, numbers in found.items()}


def _rank_times(text: str) -> list[RankTimes]:
    """Return the rows of timing.csv that can be read."""
    found = []
    for row in itertools.islice(_csv_rows(text), MAX_RANKS):
        number, host, memory = _number(row.get("rank", "")), row.get("host", ""), _number(row.get("memory", "0"))
        seconds = {name: _number(cell) for name, cell in row.items() if name not in ("rank", "host", "memory")}
        times = {name: value for name, value in seconds.items() if 0 <= value < LONGEST}
        if 0 <= number < LONGEST:
            found.append(RankTimes(int(number), host[:MOST_NAME], times, memory if 0 < memory < LONGEST else 0.0))
    return found


def _log_lines(path: Path, record: RunRecord) -> list[str]:
    """Return the lines at the end of the log of rank 0."""
    if (path / LOGS).is_symlink():
        record.missing.append("the log: its folder is a link, which is not followed")
        return []
    try:
        with os.fdopen(open_plain(path / LOGS / "rank-0.log", os.O_RDONLY), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LOG_BYTES))
            lines = file.read(MAX_LOG_BYTES).decode(errors="replace").splitlines()
    except OSError as error:
        record.missing.append(f"the log: logs/rank-0.log cannot be read: {error.strerror or error}")
        return []
    return lines[1:] if size > MAX_LOG_BYTES else lines  # the first may have lost its beginning

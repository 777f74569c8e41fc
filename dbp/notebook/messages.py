"""What a notebook and its ranks send each other: the call, the result, and failures, as files of one folder."""

from __future__ import annotations

import io
import linecache
import pickle
import sys
import traceback
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, NamedTuple

from dbp.errors import UserError
from dbp.files import write_file

CALL, RESULT, INTERRUPTION, FAILURE = "call", "result", "interruption", "failure-"
NO_NAME = "<dynamic-code>"  # by which cloudpickle replaces the names of files


class Call(NamedTuple):
    """What each rank does.

    Args:
        path: where the notebook finds modules, which the function may need.
        sources: of its cells, by the names of files that they have in tracebacks.
        work: the function and its arguments, as packed() returns them.
    """

    path: tuple[str, ...]
    sources: Mapping[str, str]
    work: bytes

    def run(self) -> Any:
        """Call the function and return its result."""
        sys.path += [path for path in self.path if path not in sys.path]
        for name, text in self.sources.items():  # so that tracebacks show the lines of cells
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        function, arguments = pickle.loads(self.work)  # noqa: S301  written by the notebook of this user
        return function(*arguments)


def packed(cloudpickle: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Return a function and its arguments as bytes, in which code keeps the name of its file for tracebacks."""
    reduced = cloudpickle.CloudPickler.dispatch_table[CodeType]

    def with_name(code: CodeType) -> tuple[Any, ...]:
        make, values = reduced(code)
        return make, tuple(code.co_filename if value == NO_NAME else value for value in values)

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # cloudpickle has no types
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: with_name}, cloudpickle.CloudPickler.dispatch_table)

    file = io.BytesIO()
    Pickler(file).dump((function, arguments))
    return file.getvalue()


def sources_in_memory() -> dict[str, str]:
    """Return the sources of code that is in no file, such as the cells of a notebook."""
    known = {name: entry[2] for name, entry in linecache.cache.items() if len(entry) == 4}
    return {name: "".join(lines) for name, lines in known.items() if not Path(name).exists()}


class Failure(NamedTuple):
    """An exception on a rank.

    Args:
        error: the exception.
        text: its traceback.
    """

    error: BaseException
    text: str


def write_failure(folder: Path, rank: int, size: int, error: BaseException, dumps: Callable[[Any], bytes]) -> None:
    """Write an exception and its traceback, for the notebook to raise."""
    inside = error.__traceback__
    while inside is not None and Path(inside.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        inside = inside.tb_next  # to the user's function
    lines = traceback.format_exception(type(error), error, inside)
    text = f"rank {rank} of {size}:\n{''.join(lines).rstrip()}"
    try:
        packed = dumps(Failure(error, text))
        pickle.loads(packed)  # noqa: S301  some exceptions are packed, but not unpacked
    except Exception:
        packed = dumps(Failure(UserError(f"rank {rank} failed with {type(error).__name__}: {error}"), text))
    write_file(folder / f"{FAILURE}{rank:06d}", packed)


def failures_in(folder: Path) -> Iterator[Failure]:
    """Yield the failures of ranks, that of the lowest rank first."""
    for path in sorted(folder.glob(f"{FAILURE}*")):
        yield pickle.loads(path.read_bytes())  # noqa: S301  written by a rank of this user

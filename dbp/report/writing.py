"""Write the report of some runs to a file, once or again and again while they go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dbp.errors import UserError
from dbp.files import write_file
from dbp.plain_files import open_plain
from dbp.report.markup import Markup
from dbp.report.page import GENERATOR, page
from dbp.report.record import RunRecord, records_of
from dbp.report.watch import REFRESH_SECONDS, ReportServer
from dbp.text import count_text, size

OF_DATA = Callable[[RunRecord], Sequence[Markup]]
HEAD_BYTES = 1024  # in which a report says that it is one


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Raise UserError if a file would be lost that is no report of dbp; one that is may be written anew."""
    if overwrite or not os.path.lexists(out):
        return
    try:
        with os.fdopen(open_plain(out, os.O_RDONLY), "rb") as file:
            is_report = GENERATOR.encode() in file.read(HEAD_BYTES)
    except OSError:
        is_report = False
    if not is_report:
        raise UserError(f"{out} exists and is no report of dbp; choose another name with -o or pass --overwrite")


def write_report(paths: Sequence[Path], out: Path, of_data: OF_DATA) -> str:
    """Write the report of some runs, and return a line on it."""
    records = records_of(paths)
    sections: Mapping[str, Sequence[Markup]] = {str(record.path): of_data(record) for record in records}
    text = page(records, sections)
    write_file(out, text.encode())
    missing = sum(len(record.missing) for record in records)
    note = f"; {count_text(missing, 'thing')} could not be read, as it says" if missing else ""
    return f"{out}: report of {count_text(len(records), 'run')}, {size(len(text.encode()))}{note}"


def watch(paths: Sequence[Path], out: Path, of_data: OF_DATA, port: int, say: Callable[[str], None]) -> str:
    """Serve the report until all runs have ended or Ctrl-C comes, write it then, and return a line on it."""

    def render() -> tuple[str, bool]:
        records = records_of(paths)
        is_last = not any(record.state == "running" for record in records)
        sections = {str(record.path): of_data(record) for record in records} if is_last else {}
        return page(records, sections, 0 if is_last else REFRESH_SECONDS), is_last

    with ReportServer(render, port) as server:
        say(f"{server.address} shows the report until the run ends; Ctrl-C ends this")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("")  # the terminal shows ^C
    return write_report(paths, out, of_data)

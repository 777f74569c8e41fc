"""Format tables and numbers for a terminal of 80 columns, and parse times."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from dbp.errors import UserError

WIDTH = 80
INDENT = "    "  # of a line that continues another
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def brief(value: object, most: int = 100) -> str:
    """Return the representation of a value, cut off where it is long, so that a message remains one line."""
    try:
        text = " ".join(repr(value).split("\n"))  # that of an array has several
    except ValueError:  # Python refuses to print a number of so many digits
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def printable(text: str) -> str:
    """Return a text with escapes in place of control characters, which move a terminal's cursor, and of broken UTF-8.

    Ends of lines and tabs remain, and so do letters of all languages.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def count_text(number: int, thing: str) -> str:
    """Return a number of things as text, such as "1 core" or "2,000 cores"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def amount(number: float, unit: str = "") -> str:
    """Format a number with three digits and a prefix: 1.57 M."""
    power = 0
    while abs(number) >= 999.5 and power < len(PREFIXES) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f} {PREFIXES[power]}{unit}".rstrip()


def size(count: float) -> str:
    """Format a number of bytes."""
    return amount(count, "B")


def is_digits(text: str) -> bool:
    """Return True if a text is a number in decimal digits that is short enough to count anything."""
    return re.fullmatch("[0-9]{1,18}", text) is not None


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape: 28x28x1; 1 for a scalar."""
    return "x".join(map(str, shape)) or "1"


def shapes_text(shapes: Sequence[int] | Mapping[str, Sequence[int]]) -> str:
    """Format a shape, or shapes by name: image=28x28x1, meta=3."""
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name}={shape_text(shape)}" for name, shape in shapes.items())
    return shape_text(shapes)


def table(rows: Sequence[Sequence[str]], left: Sequence[int], below: int | None = None) -> list[str]:
    """Format rows as lines with aligned columns.

    Args:
        rows: rows with the same number of cells, the names of the columns first.
        left: numbers of the left-aligned columns; others are right-aligned.
        below: number of the column whose cells follow on lines of their own if lines would be wider than the terminal.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if below is None or sum(widths) + 2 * (len(widths) - 1) <= WIDTH:
        return [_aligned(row, widths, left) for row in rows]
    kept = [i for i in range(len(widths)) if i != below]
    beside = [[row[i] for i in kept] for row in rows]
    aligned = table(beside, [at for at, i in enumerate(kept) if i in left])
    lines = aligned[:1]
    for row, line in zip(rows[1:], aligned[1:], strict=True):
        indent = INDENT + " " * (len(line) - len(line.lstrip()))
        lines += [line, *(indent + part for part in joined(row[below].split(), WIDTH - len(indent), indent=""))]
    return lines


def _aligned(row: Sequence[str], widths: Sequence[int], left: Sequence[int]) -> str:
    numbered = enumerate(zip(row, widths, strict=True))
    cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in numbered]
    return "  ".join(cells).rstrip()


def joined(parts: Sequence[str], columns: int = WIDTH, between: str = " ", indent: str = INDENT) -> list[str]:
    """Join parts to lines of at most so many columns; only a part that fits in none is broken, at its spaces.

    Args:
        parts: the parts; the first may begin with spaces.
        columns: of a line.
        between: spaces between parts.
        indent: of the lines but the first.
    """
    whole = (part if len(part) > columns - len(indent) else part.replace(" ", "\xa0") for part in parts)
    lines = textwrap.wrap(
        between.join(whole), columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in lines]


def lines_of(text: str, columns: int) -> str:
    """Return a line as lines of at most so many columns where words allow it; text of several lines as it is.

    Where the line is a row of figures, which two spaces separate, none of them is broken.
    """
    if len(text.strip("\n")) <= columns or "\n" in text.strip("\n"):
        return text
    start = text[: len(text) - len(text.lstrip("\n"))]
    return start + "\n".join(joined(text.strip("\n").split("  "), columns, between="  "))


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Join names with commas; name only the first `most` of them and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float) -> str:
    """Format seconds: 7.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def figures(values: Mapping[str, float]) -> str:
    """Format named numbers in one line."""
    return "  ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in values.items())


def figure(value: float) -> str:
    """Format a number with four decimals, or in scientific notation if it is very small or large."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


# Columns of the history that the line of an epoch leaves out.
COUNTS = ("epoch", "step", "evaluations", "products", "skipped", "learning_rate", "step_length", "step_norm", "seconds")


def epoch_figures(row: Mapping[str, float]) -> str:
    """Format the costs and metrics in a row of the history in one line."""
    return figures({k: v for k, v in row.items() if k not in COUNTS})


MOST_STEPS = 1000  # of a trace
TIME_OF_JOB = "auto"  # as a time limit: the time that the batch job has left


def parse_limit(text: str) -> float | str:
    """Parse a time limit as seconds or TIME_OF_JOB; raise UserError for anything else."""
    return TIME_OF_JOB if text.strip() == TIME_OF_JOB else parse_time(text)


def parse_steps(text: str) -> tuple[int, int]:
    """Parse a range of steps such as 100:120, whose first and last step both count; UserError for anything else."""
    first, colon, last = str(text).strip().partition(":")
    if not (colon and is_digits(first) and is_digits(last) and 1 <= int(first) <= int(last)):
        raise UserError(f"trace takes the first and the last step, such as 100:120, but got {text!r}")
    if (count := int(last) - int(first) + 1) > MOST_STEPS:
        raise UserError(f"trace takes at most {MOST_STEPS:,} steps, as all are kept in memory, but got {count:,}")
    return int(first), int(last)


def parse_time(text: str) -> float:
    """Parse seconds, or [days-][hours:]minutes:seconds, as seconds; raise UserError for anything else."""
    match = re.fullmatch(r"(?:(\d{1,9})-)?(?:(\d{1,9}):)?(?:(\d{1,9}):)?(\d{1,12}(?:\.\d+)?)", text.strip())
    if match is None:
        raise UserError(
            f"--time-limit takes seconds, hours:minutes:seconds such as 4:00:00, or {TIME_OF_JOB} in a batch job, "
            f"but got {text!r}"
        )
    days, first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else (0, first)
    return 86400 * int(days or 0) + 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)

"""Tables and numbers as text that fits a terminal of 100 columns."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence

from dbp.errors import UserError

WIDTH = 100
NARROWEST = 12
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def amount(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.57 M."""
    power = 0
    while abs(number) >= 999.5 and power < len(PREFIXES) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f} {PREFIXES[power]}{unit}".rstrip()


def size(count: float) -> str:
    """A number of bytes."""
    return amount(count, "B")


def shape_text(shape: Sequence[int]) -> str:
    """28x28x1; 1 for a single number."""
    return "x".join(map(str, shape)) or "1"


def table(rows: Sequence[Sequence[str]], left: Sequence[int], gives_way: int | None = None) -> list[str]:
    """Lines of aligned columns.

    Args:
        rows: all with as many cells.
        left: numbers of the columns whose cells stand at the left; the others' stand at the right.
        gives_way: number of the column whose cells are broken where lines would be wider than a terminal.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    if gives_way is not None and excess > 0:
        widths[gives_way] = max(NARROWEST, widths[gives_way] - excess)
    lines = []
    for row in rows:
        broken = [_broken(cell, widths[i]) if i == gives_way else [cell] for i, cell in enumerate(row)]
        for cells in itertools.zip_longest(*broken, fillvalue=""):
            numbered = enumerate(zip(cells, widths, strict=True))
            aligned = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in numbered]
            lines.append("  ".join(aligned).rstrip())
    return lines


def _broken(cell: str, width: int) -> list[str]:
    """A list of things in several lines, broken between things."""
    whole = cell.replace(" ", "\xa0").replace(",\xa0", ", ")
    return [line.replace("\xa0", " ") for line in textwrap.wrap(whole, width)]


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Names one after the other, of which only the first are told where there are many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float) -> str:
    """Seconds in words: 7.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def figures(values: Mapping[str, float]) -> str:
    """Named numbers in one line."""
    return "  ".join(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in values.items())


def _figure(value: float) -> str:
    """Four decimals, or as many digits where these would tell nothing, or too much."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


# Columns of the history that are not shown in the line of an epoch.
COUNTS = ("epoch", "step", "evaluations", "products", "skipped", "learning_rate", "step_length", "step_norm", "seconds")


def epoch_figures(row: Mapping[str, float]) -> str:
    """The costs and metrics in a row of the history, in one line."""
    return figures({k: v for k, v in row.items() if k not in COUNTS})


AUTO = "auto"  # as a time limit: what the scheduler leaves


def parse_limit(text: str) -> float | str:
    """Seconds, or AUTO; UserError for anything else."""
    return AUTO if text.strip() == AUTO else parse_time(text)


def parse_time(text: str) -> float:
    """Seconds, from a number of them, or from [days-][hours:]minutes:seconds; UserError for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(?:(\d+):)?(\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise UserError(
            f"--time-limit takes seconds, hours:minutes:seconds such as 4:00:00, or {AUTO} in a batch job, but got "
            f"{text!r}"
        )
    days, first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else (0, first)
    return 86400 * int(days or 0) + 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)

"""The first pass over a column of a table: what its cells are, and how often each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dbp.convert.number_like import SURE, form_of
from dbp.convert.values import EXACT, as_texts, date_or_none, finite_number, is_number, number, numbers
from dbp.data.scaling import SHOWN_LETTERS
from dbp.types import Array

Cells = Sequence[str] | Array  # of one column: texts, or numbers (NaN where missing), or dates (NaT where missing)
MOST_NAMES = 1 << 20  # of which is known whether they are repeated
NUMBERS, DATES, WORDS = "numbers", "dates", "words"


class TextScan:
    """What is known of a column of names once all its cells have been seen."""

    missing = first_missing = 0  # as none needs to be there
    is_whole = False

    def __init__(self) -> None:
        self.width = 1  # of the longest, in bytes

    def add(self, lines: Sequence[int], cells: Cells) -> None:  # noqa: ARG002  # as ColumnScan
        """Add cells."""
        self.width = max(self.width, *map(len, encoded(cells)))


class NameScan(TextScan):
    """What is known of the names of the examples: which are empty, and which are repeated among the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[bytes] = set()
        self._first: dict[str, tuple[int, str]] = {}  # line and name of the first one that is empty or repeated
        self._counts: Counter[str] = Counter()

    def add(self, lines: Sequence[int], cells: Cells) -> None:
        """Add cells."""
        super().add(lines, cells)
        for line, name in zip(lines, encoded(cells), strict=True):
            if not name or name in self._seen:
                what = "repeated" if name else "empty"
                self._counts[what] += 1
                self._first.setdefault(what, (line, name.decode(errors="replace")[:SHOWN_LETTERS]))
            elif len(self._seen) < MOST_NAMES:
                self._seen.add(name)

    def notes(self, name: str, row_word: str) -> list[str]:  # noqa: ARG002  # as KeptScan
        """Return notes for the user on a column of this name, a line each; `row_word` is what a line is called."""
        return [
            f"names of examples: {self._counts[what]:,} {what}, the first in {row_word} {line}"
            + f": {name!r}" * bool(name)
            for what, (line, name) in self._first.items()
        ]


def encoded(cells: Cells) -> list[bytes]:
    """Return cells as texts in UTF-8."""
    texts = as_texts(cells) if isinstance(cells, np.ndarray) else cells
    return [text.encode(errors="surrogateescape") for text in texts]


class ColumnScan:
    """What is known of a column once all its cells have been seen.

    Args:
        missing: texts that say that a value is missing.
        most_words: the number of different texts of which it keeps track.
        pattern: how dates are written, if not in a usual way.
        are_words: whether all cells are words, numbers too.
        are_targets: whether numbers may turn out to be words, and it matters whether they are integers.
    """

    def __init__(
        self,
        missing: Collection[str],
        most_words: int,
        pattern: str | None = None,
        *,
        are_words: bool = False,
        are_targets: bool = False,
    ):
        self._are_words, self._are_targets = are_words, are_targets
        self._missing, self._most_words, self._pattern = missing, most_words, pattern
        self.counts: Counter[str] = Counter()  # of numbers, dates, words
        self.first: dict[str, tuple[int, str]] = {}  # line and text of the first of each
        self.unread: Counter[str] = Counter()  # words that look like numbers or dates, by their form
        self.first_unread: tuple[int, str] | None = None
        self.first_infinite: tuple[int, str] | None = None  # of the numbers
        self.missing, self.first_missing = 0, 0
        self.texts: Counter[str] | None = Counter()  # None if there are too many
        self.is_whole = True  # all numbers are integers that float64 holds exactly; known of targets
        self.earliest: int | None = None  # of the dates, in microseconds from 1970
        self._sum = self._date_sum = 0.0

    def add(self, lines: Sequence[int], cells: Cells) -> Array | None:
        """Add cells; return which are missing, or None if none is."""
        if isinstance(cells, np.ndarray):
            if not self._are_words:
                return self._add_array(lines, cells)
            cells = as_texts(cells)
        if self._pattern is None and (found := numbers(cells)) is not None:
            self._add_numbers(found)
            self.first.setdefault(NUMBERS, (lines[0], cells[0]))
            if self._are_words or self._are_targets:
                self._add_texts(cells)
            return None
        counts = Counter(cells)
        empty = {text for text in counts if text in self._missing}
        for text in counts.keys() - empty:
            self._add_text(lines, cells, text, counts[text])
        self._add_texts({text: count for text, count in counts.items() if text not in empty})
        return self._note_missing(lines, np.fromiter((cell in empty for cell in cells), bool, len(cells)))

    def _add_array(self, lines: Sequence[int], cells: Array) -> Array | None:
        is_date = cells.dtype.kind == "M"
        empty = np.isnat(cells) if is_date else np.isnan(cells)
        if len(there := cells[~empty]):
            self.first.setdefault(DATES if is_date else NUMBERS, (lines[0], str(there[0])))
            if is_date:
                self.counts[DATES] += len(there)
                moments = there.astype("datetime64[us]").astype(np.int64)
                self._note_date(int(moments.min()), float(moments.astype(np.float64).sum()))
            else:
                self._add_numbers(there)
                if (infinite := np.isinf(cells)).any():
                    row = int(infinite.argmax())
                    self._note_infinite(lines[row], str(cells[row]))
        return self._note_missing(lines, empty)

    def _add_numbers(self, found: Array) -> None:
        self.counts[NUMBERS] += len(found)
        with np.errstate(all="ignore"):
            self._sum += float(found.sum())
            if self._are_targets:
                self.is_whole &= bool((np.abs(found) <= EXACT).all() and (found == np.floor(found)).all())

    def _add_text(self, lines: Sequence[int], cells: Sequence[str], text: str, count: int) -> None:
        kind = WORDS
        if self._pattern is None and is_number(text):
            kind = NUMBERS
            self._add_numbers(np.full(count, number(text)))
            if finite_number(text) is None:
                self._note_infinite(lines[cells.index(text)], text)
        elif (moment := date_or_none(text, self._pattern)) is not None:
            kind = DATES
            self.counts[DATES] += count
            self._note_date(moment, float(moment) * count)
        else:
            self.counts[WORDS] += count
        line = lines[cells.index(text)]
        if kind == WORDS and (form := form_of(text)) is not None:
            self.unread[form] += count
            self.first_unread = min(self.first_unread or (line, text), (line, text))
        if kind not in self.first or line < self.first[kind][0]:
            self.first[kind] = (line, text)

    def _add_texts(self, counts: Mapping[str, int] | Sequence[str]) -> None:
        if self.texts is not None:
            self.texts.update(counts)
            if len(self.texts) > self._most_words:
                self.texts = None

    def _note_date(self, moment: int, total: float) -> None:
        self._date_sum += total
        self.earliest = moment if self.earliest is None else min(moment, self.earliest)

    def _note_infinite(self, line: int, text: str) -> None:
        self.first_infinite = min(self.first_infinite or (line, text), (line, text))

    def _note_missing(self, lines: Sequence[int], empty: Array) -> Array | None:
        if not empty.any():
            return None
        if not self.missing:
            self.first_missing = lines[int(empty.argmax())]
        self.missing += int(empty.sum())
        return empty

    @property
    def total(self) -> int:
        """Return the number of cells that are not missing."""
        return self.counts.total()

    @property
    def mean(self) -> float:
        """Return the mean of the numbers, or of the dates in microseconds from 1970."""
        if self.counts[NUMBERS]:
            return self._sum / self.counts[NUMBERS]
        return self._date_sum / max(1, self.counts[DATES])

    @property
    def first_word(self) -> str:
        """Return the first cell that is no number, or the first of all."""
        return self.first.get(WORDS, min(self.first.values(), default=(0, "")))[1][:SHOWN_LETTERS]

    def unread_form(self, share: float, most_repeats: float) -> str | None:
        """Return the form of words that are meant as numbers or dates, though none of dbp's; None for true words.

        Args:
            share: of the cells that must look like numbers or dates, or be dates.
            most_repeats: of each word on average, where no form is sure.
        """
        if not self.unread or self.unread.total() + self.counts[DATES] < share * self.total:
            return None
        form = self.unread.most_common(1)[0][0]
        differ = self.texts is None or self.total <= most_repeats * len(self.texts)
        return form if differ or form in SURE or self.counts[DATES] else None

    def kind(self) -> str | None:
        """Return what all cells are; None if there are none, or cells of several kinds."""
        kinds = [kind for kind in (NUMBERS, DATES, WORDS) if self.counts[kind]]
        if kinds == [DATES, WORDS]:
            return WORDS
        return kinds[0] if len(kinds) == 1 else None

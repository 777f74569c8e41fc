"""Choose the coding of each column of a table from what the first pass has found and what the user says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dbp.convert.coding import CLASSES, ORDERED, TEXTS, ColumnCoding, microseconds
from dbp.convert.kept import KeptScan
from dbp.convert.number_like import DECIMAL, form_of, how_to_read
from dbp.convert.roles import KEPT, Roles, Table, TableOptions, index_of
from dbp.convert.scan import DATES, NUMBERS, WORDS, ColumnScan, NameScan, TextScan
from dbp.convert.values import DAY, INFINITE
from dbp.data.row_names import IDS
from dbp.data.scaling import SHOWN_LETTERS
from dbp.errors import UserError

MOST_WORDS, MOST_STATED_WORDS, MOST_CLASSES = 100, 10_000, 100_000  # of one column
UNREAD_SHARE = 0.9  # of the cells of a column that look like numbers or dates, from which on they are no words
UNREAD_REPEATS = 1.5  # of each word on average, up to which words that begin with digits are no categories


class Chooser:
    """What the user says of the columns of a table, by their numbers.

    Args:
        table: the table.
        options: what the user says.
        roles: what each column becomes.

    Raises:
        UserError: something is said of a column that is not used.
    """

    def __init__(self, table: Table, options: TableOptions, roles: Roles):
        self._table, self._options = table, options
        self._words = {index_of(table, name) for name in options.words}
        self._orders = {index_of(table, name): tuple(words) for name, words in options.orders.items()}
        self._dates = {index_of(table, name): pattern for name, pattern in options.dates.items()}
        self._targets, self._ids, self._kept = roles["targets"], roles[IDS], roles[KEPT]
        used = {index for indices in roles.values() for index in indices}
        if idle := sorted({*self._words, *self._orders, *self._dates} - used):
            raise UserError(
                f"{table.path}: column {self._label(idle[0])!r} is left out, so that its coding cannot be stated"
            )
        if options.classes is not None and len(self._targets) != 1:
            raise UserError(f"{table.path}: --classes needs one column of targets, but there are {len(self._targets)}")

    def _label(self, index: int) -> str:
        return str(index) if self._table.names is None else self._table.names[index]

    def scan(self, index: int) -> ColumnScan | TextScan:
        """Return an empty first pass over a column."""
        if index in self._kept:
            return KeptScan()
        if index in self._ids:
            return NameScan()
        is_target = index in self._targets
        most = MOST_CLASSES if is_target else MOST_STATED_WORDS if index in self._words else MOST_WORDS
        are_words = index in {*self._words, *self._orders} or (is_target and self._options.classes is not None)
        pattern = self._dates.get(index)
        return ColumnScan(self._options.empty, most, pattern, are_words=are_words, are_targets=is_target)

    def coding(self, index: int, scan: ColumnScan | TextScan) -> ColumnCoding:
        """Return the coding of a column; raise UserError, naming a line, if its cells do not fit together."""
        coding = ColumnCoding(None if self._table.names is None else self._table.names[index], index)
        if isinstance(scan, TextScan):
            return replace(coding, kind=TEXTS)
        if index in self._targets and (words := self._options.classes or self._orders.get(index)) is not None:
            return replace(coding, kind=CLASSES, words=tuple(words))
        if index in self._orders:
            return replace(coding, kind=ORDERED, words=self._orders[index])
        if not scan.total:
            raise UserError(
                f"{self._table.path}: column {self._label(index)!r} has no values; leave it out with --drop"
            )
        if index in self._words:
            return replace(coding, kind=WORDS, words=self._words_of(index, scan))
        return self._found(coding, scan)

    def _found(self, coding: ColumnCoding, scan: ColumnScan) -> ColumnCoding:
        """Return the coding of a column of which nothing is stated but how dates are written."""
        index, kind, pattern = coding.place, scan.kind(), self._dates.get(coding.place)
        if pattern is not None and kind != DATES:
            line, text = scan.first[WORDS]
            raise UserError(
                f"{self._table.path}, {self._table.row_word} {line}: {text[:SHOWN_LETTERS]!r} is not a date as --date "
                f"{self._label(index)}={pattern} says"
            )
        if scan.first_infinite is not None:
            raise self._infinite(index, *scan.first_infinite)
        if kind == DATES:
            assert scan.earliest is not None
            day = str(np.datetime64(scan.earliest // DAY, "D"))
            return replace(coding, kind=DATES, origin=day, pattern=pattern)
        if kind == NUMBERS:
            return replace(coding, mean=scan.mean)
        if (form := scan.unread_form(UNREAD_SHARE, UNREAD_REPEATS)) is not None:
            raise self._unread(index, scan, form)
        if index in self._targets:
            return replace(coding, kind=CLASSES, words=self._classes(index, scan))
        if kind == WORDS:
            return replace(coding, kind=WORDS, words=self._words_of(index, scan))
        raise self._mixed(index, scan)

    def _infinite(self, index: int, line: int, text: str) -> UserError:
        label = self._label(index)
        missing = f"say --missing-text {text[:SHOWN_LETTERS]!r}" if self._table.is_text else "write null"
        return UserError(
            f"{self._table.path}, {self._table.row_word} {line}: {text[:SHOWN_LETTERS]!r} in column {label!r} is "
            f"{INFINITE}; {missing} if it stands for a missing value, or leave the column out with --drop {label!r}"
        )

    def _unread(self, index: int, scan: ColumnScan, form: str) -> UserError:
        assert scan.first_unread is not None
        (line, text), label = scan.first_unread, self._label(index)
        of_text = how_to_read(form, label) if self._table.is_text else ""
        words = "--classes with the classes" if index in self._targets else f"--words {label!r}"
        return UserError(
            f"{self._table.path}, {self._table.row_word} {line}: {text[:SHOWN_LETTERS]!r} in column {label!r} looks "
            f"like a number or a date, but in no form that is read; {of_text}say {words} if all are words, or leave "
            f"the column out with --drop {label!r}"
        )

    def _mixed(self, index: int, scan: ColumnScan) -> UserError:
        line, text = min(scan.first[other] for other in (DATES, WORDS) if other in scan.first)
        label = self._label(index)
        how = how_to_read(DECIMAL, label) if self._table.is_text and form_of(text) == DECIMAL else ""
        return UserError(
            f"{self._table.path}, {self._table.row_word} {line}: {text[:SHOWN_LETTERS]!r} is not a number, as "
            f"{scan.counts[NUMBERS]:,} of {scan.total:,} values of column {label!r} are; {how}say --words {label!r} if "
            f"all are words, or --missing-text {text[:SHOWN_LETTERS]!r} if it stands for a missing value"
        )

    def _words_of(self, index: int, scan: ColumnScan) -> tuple[str, ...]:
        label = self._label(index)
        if scan.texts is None:
            most = MOST_STATED_WORDS if index in self._words else MOST_WORDS
            raise UserError(
                f"{self._table.path}: column {label!r} has more than {most:,} different words, such as "
                f"{scan.first_word!r}, of which each would be a column; leave it out with --drop {label!r}, keep it "
                f"as names of the examples with --id {label!r}"
                + f", or say --words {label!r} if they are meant so"
                * (index not in self._words)
            )
        return tuple(sorted(scan.texts))

    def _classes(self, index: int, scan: ColumnScan) -> tuple[str, ...]:
        if len(self._targets) > 1:
            raise UserError(
                f"{self._table.path}: column {self._label(index)!r} has words, but several targets must be numbers; "
                "name one target, or write numbers"
            )
        if scan.texts is None:
            raise UserError(
                f"{self._table.path}: the targets have more than {MOST_CLASSES:,} different words; are they classes?"
            )
        return tuple(sorted(scan.texts))


def mean_of(coding: ColumnCoding, scan: ColumnScan | TextScan) -> float | None:
    """Return the mean of a column as it is coded; None for words, classes and texts."""
    if isinstance(scan, TextScan):
        return None
    if coding.kind == NUMBERS:
        return scan.mean
    if coding.kind == DATES:
        return (scan.mean - microseconds(coding.origin)) / DAY
    if coding.kind == ORDERED and scan.texts:
        known = {word: count for word, count in scan.texts.items() if word in coding.words}
        return sum(coding.words.index(w) * count for w, count in known.items()) / max(1, sum(known.values()))
    return None

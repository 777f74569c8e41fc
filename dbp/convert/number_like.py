"""Words that are numbers or dates to a reader, in a form that dbp does not read."""

from __future__ import annotations

import re

DECIMAL, DATE, OTHER = "decimal", "date", "other"
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
SURE = {
    DECIMAL: re.compile(r"[+-]?(\d+,\d*|\d*,\d+)(e[+-]?\d+)?", re.IGNORECASE),
    DATE: re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}([ T]\d\d?:\d\d.*)?"),
}
OTHERS = re.compile(rf"[+-]?[$€£]?\d.*|({MONTHS})[a-z]*[. ].*\d.*|[$€£].*\d.*", re.IGNORECASE)


def form_of(word: str) -> str | None:
    """Return what a word looks like: a number with a comma (`decimal`), a `date`, something of digits (`other`)."""
    found = next((form for form, pattern in SURE.items() if pattern.fullmatch(word)), None)
    return found or (OTHER if OTHERS.fullmatch(word) else None)


def how_to_read(form: str, label: str) -> str:
    """Return what to do so that a column of text with words of this form is read; ends with a comma."""
    if form == DECIMAL:
        return "say --decimal , if a comma stands before decimals, or write numbers without commas between thousands, "
    if form == DATE:
        return f"say how dates are written, such as --date '{label}=%m/%d/%Y', or mend it, "
    return "write numbers as 1234.5 and dates as 2019-03-01, or say how dates are written with --date, "

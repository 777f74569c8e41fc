"""A step length that meets the strong Wolfe conditions (More and Thuente 1994)."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

DECREASE, SLOPE = 1e-3, 0.9  # c1 and c2 of the conditions; for quasi-Newton methods a loose second one is best
LONGEST = 1e20  # step
FURTHER = 1.1, 4.0  # by how many times the last distance the next trial goes on, until there is a bracket
SHRINK, NARROW = 0.66, 0.1  # of an interval within two trials, or it is halved; relative width that is enough
RETREAT = 0.25  # of the way that is kept when the cost was no number


class Point(NamedTuple):
    """A step length, with value and slope there."""

    length: float
    value: float
    slope: float


Search = Generator[float, tuple[float, float], "Found"]


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Args:
        length: the best step that was tried; 0 if none lowers the value.
        is_wolfe: whether it meets the strong Wolfe conditions.
        is_last: whether it was the last to be tried.
    """

    length: float
    is_wolfe: bool
    is_last: bool


def strong_wolfe(value: float, slope: float, first: float, trials: int = 20) -> Search:
    """Yields step lengths to try and takes value and slope there; returns what it found.

    phi(a) is the value, and its slope phi'(a). A step meets the conditions if
    phi(a) <= phi(0) + c1 a phi'(0) and |phi'(a)| <= c2 |phi'(0)|.

    Args:
        value: phi(0).
        slope: phi'(0), which is negative.
        first: the first length to try.
        trials: how many there may be.
    """
    search = _Interval(Point(0.0, value, slope), first)
    length = first
    for trial in range(1, trials + 1):
        point = Point(length, *(yield length))
        if not (math.isfinite(point.value) and math.isfinite(point.slope)):
            length = search.retreat(point.length)
        elif search.is_wolfe(point):
            return Found(length, is_wolfe=True, is_last=True)
        else:
            length = search.after(point)
        if trial == trials or search.is_exhausted(length):
            break
    return search.found(point.length)


class _Interval:
    """That of uncertainty: from the best point so far to another end, between which an acceptable step lies.

    Args:
        start: the point of length 0.
        first: the length that is tried first.
    """

    def __init__(self, start: Point, first: float):
        self.start = self.best = self.end = start
        self.bracketed, self.above = False, True  # above: no point yet with a low value and a rising slope (stage 1)
        self.low, self.high = 0.0, first + FURTHER[1] * first
        self.limit = LONGEST  # what lies beyond is no number
        self._before = 2 * LONGEST
        self._width = LONGEST

    def is_wolfe(self, point: Point) -> bool:
        """Whether the strong Wolfe conditions hold there."""
        return point.value <= self._line(point.length) and abs(point.slope) <= SLOPE * -self.start.slope

    def _line(self, length: float) -> float:
        return self.start.value + DECREASE * length * self.start.slope

    def after(self, point: Point) -> float:
        """Take in a point; gives the length to try next."""
        if self.above and point.value <= self._line(point.length) and point.slope >= 0:
            self.above = False
        if self.above and point.value <= self.best.value and point.value > self._line(point.length):
            best, end, new = map(self._lifted, (self.best, self.end, point))  # psi instead of phi
            length = self._update(best, end, new, point)
        else:
            length = self._update(self.best, self.end, point, point)
        if self.bracketed:
            width = abs(self.end.length - self.best.length)
            if width >= SHRINK * self._before:
                length = (self.best.length + self.end.length) / 2
            self._before, self._width = self._width, width
            self.low, self.high = sorted((self.best.length, self.end.length))
        else:
            self.low, self.high = (length + k * (length - self.best.length) for k in FURTHER)
        return min(max(length, 0.0), self.limit)

    def _lifted(self, point: Point) -> Point:
        """On psi(a) = phi(a) - phi(0) - c1 a phi'(0), whose minimum is an acceptable step (equation 2.1)."""
        rise = DECREASE * self.start.slope
        return Point(point.length, point.value - point.length * rise, point.slope - rise)

    def _update(self, best: Point, end: Point, new: Point, plain: Point) -> float:
        """The next length (section 4), and the new interval (section 2); `plain` is the new point on phi."""
        low, high = max(self.low, 0.0), min(self.high, self.limit)
        length, bracketed = next_length(best, end, new, self.bracketed, low, high)
        if new.value > best.value:
            self.end = plain
        else:
            if new.slope * (best.length - new.length) < 0:
                self.end = self.best
            self.best = plain
        self.bracketed = bracketed
        return length

    def retreat(self, length: float) -> float:
        """The cost is no number at this length: a shorter one, and never one beyond."""
        self.limit = self.best.length + (length - self.best.length) / 2
        self.high = min(self.high, self.limit)
        return self.best.length + RETREAT * (length - self.best.length)

    def is_exhausted(self, length: float) -> bool:
        """Whether rounding leaves nothing to try."""
        if self.bracketed:
            return not self.low < length < self.high or self.high - self.low <= NARROW * self.high
        return length <= 0 or length >= LONGEST or length == self.best.length

    def found(self, last: float) -> Found:
        """The best of what was tried, if it lowers the value enough."""
        good = self.best.value < self.start.value and self.best.value <= self._line(self.best.length)
        return Found(self.best.length if good else 0.0, is_wolfe=False, is_last=self.best.length == last)


def next_length(best: Point, end: Point, new: Point, bracketed: bool, low: float, high: float) -> tuple[float, bool]:
    """Where to try next, by More and Thuente's four cases, and whether a minimum is bracketed now.

    Args:
        best: the point with the lowest value.
        end: the other end of the interval.
        new: the point that was tried.
        bracketed: whether a minimum lies between best and end.
        low: shortest length to try.
        high: longest length to try.
    """
    turned = new.slope * best.slope < 0
    if new.value > best.value:  # case 1: a minimum lies between
        cubic, parabola = cubic_minimum(best, new), _parabola(best, new)
        near = abs(cubic - best.length) < abs(parabola - best.length)
        return (cubic if near else (cubic + parabola) / 2), True
    if turned:  # case 2: so it does here
        cubic, secant = cubic_minimum(new, best), _secant(best, new)
        return max(cubic, secant, key=lambda length: abs(length - new.length)), True
    if abs(new.slope) < abs(best.slope):  # case 3: it is farther on
        return _beyond(best, end, new, bracketed, low, high), bracketed
    if bracketed:  # case 4: the slope does not fall
        return cubic_minimum(new, end), True
    return (high if new.length > best.length else low), False


def _beyond(best: Point, end: Point, new: Point, bracketed: bool, low: float, high: float) -> float:
    """Case 3: the cubic's minimum if it lies beyond the new point, or the secant's."""
    cubic = cubic_minimum(new, best, beyond=True)
    if not math.isfinite(cubic):
        cubic = high if new.length > best.length else low
    secant = _secant(best, new)
    nearest, farthest = sorted((cubic, secant), key=lambda length: abs(length - new.length))
    if not bracketed:
        return min(max(farthest, low), high)
    border = new.length + SHRINK * (end.length - new.length)
    return min(nearest, border) if new.length > best.length else max(nearest, border)


def cubic_minimum(a: Point, b: Point, beyond: bool = False) -> float:
    """The length at which the cubic through two points with their slopes is smallest.

    Args:
        a: one point.
        b: the other point.
        beyond: whether it must lie on the other side of a than b; infinity if it does not.
    """
    theta = 3 * (a.value - b.value) / (b.length - a.length) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    under = (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)
    gamma = scale * math.sqrt(max(0.0, under))
    gamma = -gamma if b.length < a.length else gamma
    below = 2 * gamma - a.slope + b.slope
    ratio = (gamma - a.slope + theta) / below if below else math.inf
    if beyond and not (ratio < 0 and gamma != 0):
        return math.inf
    return a.length + ratio * (b.length - a.length)


def _parabola(a: Point, b: Point) -> float:
    """Where the parabola with a's value and slope and b's value is smallest."""
    fall = (a.value - b.value) / (b.length - a.length) + a.slope
    return a.length + a.slope / fall / 2 * (b.length - a.length)


def _secant(a: Point, b: Point) -> float:
    """Where the slope would vanish if it were linear."""
    return b.length + b.slope / (b.slope - a.slope) * (a.length - b.length)

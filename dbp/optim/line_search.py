"""A line search for a step length that meets the strong Wolfe conditions (Moré and Thuente 1994).

The search is a generator: it yields a step length and receives value and slope there, so the caller evaluates.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

DECREASE, SLOPE = 1e-3, 0.9  # c1 and c2 of the strong Wolfe conditions; quasi-Newton methods want a loose c2
MAX_LENGTH = 1e20  # of a step
EXTRAPOLATION = 1.1, 4.0  # bounds on the next trial before there is a bracket, in distances between the last two
SHRINKAGE = 0.66  # bisect if two trials have not shrunk the interval by this factor (section 4)
RELATIVE_WIDTH = 0.1  # an interval so narrow, relative to its upper end, ends the search
RETREAT = 0.25  # the next trial after one that is not finite, as a part of the way to it


class Point(NamedTuple):
    """A step length with the value and the slope there."""

    length: float
    value: float
    slope: float


Search = Generator[float, tuple[float, float], "Found"]


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Args:
        length: of the best step that was tried; 0 if none lowers the value enough.
        is_wolfe: whether it meets the strong Wolfe conditions.
        is_last: whether it is the step that was tried last.
    """

    length: float
    is_wolfe: bool
    is_last: bool


def strong_wolfe(value: float, slope: float, first: float, trials: int = 20) -> Search:
    """Yield step lengths to try, receive (value, slope) at each, and return the length that was found.

    With phi(a) the value after a step of length a, the strong Wolfe conditions are
    phi(a) <= phi(0) + c1 a phi'(0) and |phi'(a)| <= c2 |phi'(0)|.

    Args:
        value: phi(0).
        slope: phi'(0), negative.
        first: the first length to try; positive.
        trials: the largest number of lengths to try.
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
            length = search.update(point)
        if trial == trials or search.is_exhausted(length):
            break
    return search.found(point.length)


class _Interval:
    """The interval of uncertainty, between whose ends an acceptable step lies, and bounds on the next trial.

    Args:
        start: the point of length 0.
        first: the length that is tried first.
    """

    def __init__(self, start: Point, first: float):
        self.start = self.best = self.end = start
        self.bracketed = False  # whether the interval contains a minimum
        self.in_stage_1 = True  # until a point has a low enough value and a slope that is not negative
        self.low, self.high = 0.0, first + EXTRAPOLATION[1] * first
        self.limit = MAX_LENGTH  # the largest length whose value may be finite
        self._before = 2 * MAX_LENGTH
        self._width = MAX_LENGTH

    def is_wolfe(self, point: Point) -> bool:
        """Return True if the point meets the strong Wolfe conditions."""
        return point.value <= self._line(point.length) and abs(point.slope) <= SLOPE * -self.start.slope

    def _line(self, length: float) -> float:
        """Return phi(0) + c1 a phi'(0): the largest value of sufficient decrease."""
        return self.start.value + DECREASE * length * self.start.slope

    def update(self, point: Point) -> float:
        """Update the interval by a point that was tried, and return the length to try next."""
        if self.in_stage_1 and point.value <= self._line(point.length) and point.slope >= 0:
            self.in_stage_1 = False
        if self.in_stage_1 and point.value <= self.best.value and point.value > self._line(point.length):
            best, end, new = map(self._on_psi, (self.best, self.end, point))  # on psi instead of phi
            length = self._update(best, end, new, point)
        else:
            length = self._update(self.best, self.end, point, point)
        if self.bracketed:
            width = abs(self.end.length - self.best.length)
            if width >= SHRINKAGE * self._before:
                length = (self.best.length + self.end.length) / 2
            self._before, self._width = self._width, width
            self.low, self.high = sorted((self.best.length, self.end.length))
        else:
            self.low, self.high = (length + k * (length - self.best.length) for k in EXTRAPOLATION)
        return min(max(length, 0.0), self.limit)

    def _on_psi(self, point: Point) -> Point:
        """Return the point on psi(a) = phi(a) - phi(0) - c1 a phi'(0), whose minimum is acceptable (equation 2.1).

        The constant phi(0) is left out: only differences of values count.
        """
        rise = DECREASE * self.start.slope
        return Point(point.length, point.value - point.length * rise, point.slope - rise)

    def _update(self, best: Point, end: Point, new: Point, plain: Point) -> float:
        """Set the new interval (section 2) and return the next length (section 4); `plain` is the new point on phi."""
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
        """Return a shorter length, because the value is not finite at this one, and bound all later ones."""
        self.limit = self.best.length + (length - self.best.length) / 2
        self.high = min(self.high, self.limit)
        return self.best.length + RETREAT * (length - self.best.length)

    def is_exhausted(self, length: float) -> bool:
        """Return True if the interval is too narrow, or the next length not a new one."""
        if self.bracketed:
            return not self.low < length < self.high or self.high - self.low <= RELATIVE_WIDTH * self.high
        return length <= 0 or length >= MAX_LENGTH or length == self.best.length

    def found(self, last: float) -> Found:
        """Return the best length that was tried, or 0 if it does not lower the value enough."""
        good = self.best.value < self.start.value and self.best.value <= self._line(self.best.length)
        return Found(self.best.length if good else 0.0, is_wolfe=False, is_last=self.best.length == last)


def next_length(best: Point, end: Point, new: Point, bracketed: bool, low: float, high: float) -> tuple[float, bool]:
    """Return the length to try next, by the four cases of section 4, and whether a minimum is bracketed then.

    Args:
        best: the point with the lowest value.
        end: the other end of the interval.
        new: the point that was tried.
        bracketed: whether a minimum lies between best and end.
        low: the shortest length to try.
        high: the longest length to try.
    """
    turned = new.slope * best.slope < 0
    if new.value > best.value:  # case 1: a minimum lies between the two
        cubic, parabola = cubic_minimum(best, new), _parabola(best, new)
        near = abs(cubic - best.length) < abs(parabola - best.length)
        return (cubic if near else (cubic + parabola) / 2), True
    if turned:  # case 2: here too
        cubic, secant = cubic_minimum(new, best), _secant(best, new)
        return max(cubic, secant, key=lambda length: abs(length - new.length)), True
    if abs(new.slope) < abs(best.slope):  # case 3: the minimum lies beyond the new point
        return _beyond(best, end, new, bracketed, low, high), bracketed
    if bracketed:  # case 4: the slope does not flatten
        return cubic_minimum(new, end), True
    return (high if new.length > best.length else low), False


def _beyond(best: Point, end: Point, new: Point, bracketed: bool, low: float, high: float) -> float:
    """Return the length of case 3: the minimum of the cubic, if it lies beyond the new point, or of the secant."""
    cubic = cubic_minimum(new, best, beyond=True)
    if not math.isfinite(cubic):
        cubic = high if new.length > best.length else low
    secant = _secant(best, new)
    nearest, farthest = sorted((cubic, secant), key=lambda length: abs(length - new.length))
    if not bracketed:
        return min(max(farthest, low), high)
    bound = new.length + SHRINKAGE * (end.length - new.length)
    return min(nearest, bound) if new.length > best.length else max(nearest, bound)


def cubic_minimum(a: Point, b: Point, beyond: bool = False) -> float:
    """Return the length at which the cubic through the values and slopes of two points has its minimum.

    Args:
        a: one point.
        b: the other point.
        beyond: whether to return infinity unless a lies between the minimum and b.
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
    """Return the length at which the parabola through a's value and slope and b's value has its minimum."""
    fall = (a.value - b.value) / (b.length - a.length) + a.slope
    return a.length + a.slope / fall / 2 * (b.length - a.length)


def _secant(a: Point, b: Point) -> float:
    """Return the length at which the slope vanishes, if it is linear between a and b."""
    return b.length + b.slope / (b.slope - a.slope) * (a.length - b.length)

"""What a quasi-Newton method remembers: the last steps, the changes of the gradient along them, their inner products.

A direction is a linear combination of these vectors, whose coefficients follow from inner products alone (Chen, Wang
and Zhou 2014): so one pass over the vectors gives all the products that an iteration needs, and one the direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.optim.method import Space, State, Vector, pieces

PIECE = 8192  # elements; a piece of the direction then stays in the nearest cache while others are added to it


class History:
    """The pairs s_i = step, y_i = change of the gradient, of which the newest are kept.

    A step is kept as the direction p_i that was taken and the length t_i of the step along it, s_i = t_i p_i.

    Args:
        state: in which vectors and numbers are kept, as vectors() and numbers() name them.
        memory: how many pairs there may be.
    """

    def __init__(self, state: State, memory: int):
        self._vectors, self._numbers, self._memory = state.vectors, state.numbers, memory

    @staticmethod
    def vectors(memory: int) -> tuple[str, ...]:
        """One more step than pairs, as the next direction is found while all pairs are still needed."""
        return (*(f"step_{i}" for i in range(memory + 1)), *(f"change_{i}" for i in range(memory + 1)))

    @staticmethod
    def numbers(memory: int) -> dict[str, NDArray[Any]]:
        """No pairs, and room for their products."""
        size = memory + 1
        return {
            "pairs": np.zeros(0, np.int64),  # the places of the pairs, from the oldest to the newest
            "lengths": np.zeros(size),
            "step_changes": np.zeros((size, size)),  # p_i y_j, for pairs i not newer than j
            "change_changes": np.zeros((size, size)),  # y_i y_j
        }

    @property
    def pairs(self) -> list[int]:
        """The places of the pairs, from the oldest to the newest."""
        return [int(i) for i in self._numbers["pairs"]]

    def forget(self) -> None:
        """All pairs."""
        self._numbers["pairs"] = np.zeros(0, np.int64)

    @property
    def free(self) -> int:
        """The place of the next pair."""
        return next(i for i in range(self._memory + 1) if i not in self.pairs)

    @property
    def direction(self) -> Vector:
        """That of the next step, at the free place."""
        return self._vectors[f"step_{self.free}"]

    @property
    def change(self) -> Vector:
        """That of the gradient along it, at the free place."""
        return self._vectors[f"change_{self.free}"]

    def _of(self, pairs: Sequence[int]) -> list[Vector]:
        return [self._vectors[f"{name}_{i}"] for name in ("step", "change") for i in pairs]

    def products(self, space: Space, gradient: Vector) -> NDArray[Any]:
        """Those of the steps, the changes and the gradient itself with a gradient."""
        return space.dots([*self._of(self.pairs), gradient], [gradient])[:, 0]

    def add(self, space: Space, length: float, gradient: Vector) -> NDArray[Any]:
        """Take in the pair at the free place, if its curvature is positive; gives products() with the new gradient.

        Args:
            space: that of the vectors.
            length: of the step along the direction.
            gradient: at the end of the step.
        """
        new, before = self.free, self.pairs
        pairs = [*before, new]
        found = space.dots([*self._of(pairs), gradient], [self.change, gradient])
        with_change, with_gradient = found[:, 0], found[:, 1]
        count = len(pairs)
        curvature, square = with_change[count - 1], with_change[2 * count - 1]
        kept = length * curvature > np.finfo(gradient.dtype).eps * square  # Byrd et al. 1995, equation 3.9
        if kept:
            self._numbers["lengths"][new] = length
            self._numbers["step_changes"][pairs, new] = with_change[:count]
            for table in (self._numbers["change_changes"], self._numbers["change_changes"].T):
                table[new, pairs] = with_change[count : 2 * count]
            dropped = len(pairs) - self._memory if len(pairs) > self._memory else 0
            self._numbers["pairs"] = np.array(pairs[dropped:], np.int64)
        chosen = [i for i, pair in enumerate(pairs) if pair in self.pairs]
        return with_gradient[[*chosen, *(count + i for i in chosen), 2 * count]]

    def find_direction(self, space: Space, gradient: Vector, products: NDArray[Any]) -> float:
        """Write the next direction to its place; gives the slope along it.

        Args:
            space: that of the vectors.
            gradient: at the weights.
            products: with it.
        """
        of_steps, of_changes, of_gradient = self._coefficients(products)
        terms = [(-of_gradient, gradient)]
        terms += [(-c, v) for c, v in zip([*of_steps, *of_changes], self._of(self.pairs), strict=True)]
        _combine(space, self.direction, terms)
        return -float(np.dot([*of_steps, *of_changes, of_gradient], products))

    def _coefficients(self, products: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
        """Of H times the gradient: the two-loop recursion (Nocedal and Wright 2006, Algorithm 7.4) on inner products.

        The vectors q and r of the recursion are known by the coefficients of the gradient, of y_i (alpha) and of s_i
        (beta) in them.
        """
        pairs = self.pairs
        count = len(pairs)
        lengths = self._numbers["lengths"][pairs]
        sy = lengths[:, None] * self._numbers["step_changes"][np.ix_(pairs, pairs)]
        yy = self._numbers["change_changes"][np.ix_(pairs, pairs)]
        sg, yg = lengths * products[:count], products[count : 2 * count]
        alpha, beta = np.zeros(count), np.zeros(count)
        for i in reversed(range(count)):  # q = g - sum of alpha_j y_j
            alpha[i] = (sg[i] - alpha @ sy[i]) / sy[i, i]
        gamma = sy[-1, -1] / yy[-1, -1] if count else 1.0  # equation 7.20
        for i in range(count):  # r = gamma q + sum of beta_j s_j
            along_change = gamma * (yg[i] - alpha @ yy[i]) + beta[:i] @ sy[:i, i]
            beta[i] = alpha[i] - along_change / sy[i, i]
        return beta * lengths, -gamma * alpha, gamma


def _combine(space: Space, target: Vector, terms: Sequence[tuple[float, Vector]]) -> None:
    """The sum of vectors times numbers."""
    typed = [(target.dtype.type(factor), vector) for factor, vector in terms]
    scratch = np.empty(PIECE, target.dtype)
    for piece in pieces(space.owned, PIECE):
        place, term = target[piece], scratch[: piece.stop - piece.start]
        np.multiply(typed[0][1][piece], typed[0][0], out=place)
        for factor, vector in typed[1:]:
            np.multiply(vector[piece], factor, out=term)
            np.add(place, term, out=place)

"""What a quasi-Newton method remembers: the last steps, the changes of the gradient along them, their inner products.

A direction is a linear combination of these vectors, whose coefficients follow from inner products alone (Chen, Wang
and Zhou 2014): so one pass over the vectors gives all the products that an iteration needs, and one the direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.optim.method import State, Vector, VectorSpace


class History:
    """The pairs s_i = step, y_i = change of the gradient, of which the newest are kept.

    A step is kept as the direction p_i that was taken and the length t_i of the step along it, s_i = t_i p_i.

    Args:
        state: in which vectors and numbers are kept, as vectors() and numbers() name them.
        memory: how many pairs there may be.
    """

    def __init__(self, state: State, memory: int):
        self._rows, self._numbers, self._memory = state.rows, state.numbers, memory
        self.gradient = self._rows[0]

    @staticmethod
    def vectors(memory: int) -> tuple[str, ...]:
        """The gradient and the pairs: one more of them, as the next direction is found while all are still needed."""
        return ("gradient", *(f"step_{i}" for i in range(memory + 1)), *(f"change_{i}" for i in range(memory + 1)))

    def _step(self, pair: int) -> int:
        """The row of its step."""
        return 1 + pair

    def _change(self, pair: int) -> int:
        """The row of its change of the gradient."""
        return 2 + self._memory + pair

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
        row: Vector = self._rows[self._step(self.free)]
        return row

    @property
    def change(self) -> Vector:
        """That of the gradient along it, at the free place."""
        row: Vector = self._rows[self._change(self.free)]
        return row

    def _of(self, pairs: Sequence[int]) -> list[int]:
        """The rows of all steps, then of all changes."""
        return [*map(self._step, pairs), *map(self._change, pairs)]

    def products(self, space: VectorSpace) -> NDArray[Any]:
        """Those of the gradient with the steps, with the changes and with itself."""
        found: NDArray[Any] = space.dots(self._rows, self._rows[:1])[[*self._of(self.pairs), 0], 0]
        return found

    def add(self, space: VectorSpace, length: float) -> NDArray[Any]:
        """Take in the pair at the free place, if its curvature is positive; gives products() with the new gradient.

        Args:
            space: that of the vectors.
            length: of the step along the direction.
        """
        new, before = self.free, self.pairs
        pairs, row = [*before, new], self._change(new)
        found = space.dots(self._rows, self._rows[::row][:2])  # with the gradient and with the change, in one pass
        with_gradient, with_change = found[:, 0], found[:, 1]
        curvature, square = with_change[self._step(new)], with_change[row]
        if length * curvature > np.finfo(self._rows.dtype).eps * square:  # Byrd et al. 1995, equation 3.9
            self._numbers["lengths"][new] = length
            self._numbers["step_changes"][pairs, new] = with_change[[*map(self._step, pairs)]]
            for table in (self._numbers["change_changes"], self._numbers["change_changes"].T):
                table[new, pairs] = with_change[[*map(self._change, pairs)]]
            self._numbers["pairs"] = np.array(pairs[-self._memory :], np.int64)
        products: NDArray[Any] = with_gradient[[*self._of(self.pairs), 0]]
        return products

    def find_direction(self, space: VectorSpace, products: NDArray[Any]) -> float:
        """Write the next direction to its place; gives the slope along it.

        Args:
            space: that of the vectors.
            products: with the gradient.
        """
        of_steps, of_changes, of_gradient = self._coefficients(products)
        coefficients = np.array([*of_steps, *of_changes, of_gradient])
        numbers = np.zeros(len(self._rows))
        numbers[[*self._of(self.pairs), 0]] = -coefficients
        space.combine(numbers, self._rows, self.direction)
        return -float(np.dot(coefficients, products))

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

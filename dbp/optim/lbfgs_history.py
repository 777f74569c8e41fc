"""The history of L-BFGS: the last steps, the changes of the gradient along them, and their inner products.

A direction is a linear combination of these vectors, whose coefficients follow from the inner products alone (Chen,
Wang and Zhou 2014). So an iteration reads the vectors twice: once for all inner products, once for the direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.optim.optimizer import State
from dbp.optim.protocols import Vector, VectorSpace


class History:
    """The newest pairs s_i = w_new - w (the step) and y_i = g_new - g (the change of the gradient).

    A step is stored as its direction p_i and its length t_i, with s_i = t_i p_i. A pair lies in a slot, a number from
    0 to memory; one slot is always free, for the next direction.

    Args:
        state: holds the vectors and numbers that vectors() and numbers() name.
        memory: the largest number of pairs.
    """

    def __init__(self, state: State, memory: int):
        self._rows, self._numbers, self._memory = state.rows, state.numbers, memory
        self.gradient = self._rows[0]

    @staticmethod
    def vectors(memory: int) -> tuple[str, ...]:
        """Name the gradient and memory + 1 pairs: the next direction is found while all others are still needed."""
        return ("gradient", *(f"step_{i}" for i in range(memory + 1)), *(f"change_{i}" for i in range(memory + 1)))

    def _step(self, slot: int) -> int:
        """Return the row of a slot's direction p."""
        return 1 + slot

    def _change(self, slot: int) -> int:
        """Return the row of a slot's change of the gradient y."""
        return 2 + self._memory + slot

    @staticmethod
    def numbers(memory: int) -> dict[str, NDArray[Any]]:
        """Return the numbers of an empty history."""
        size = memory + 1
        return {
            "pairs": np.zeros(0, np.int64),  # their slots, from the oldest to the newest
            "lengths": np.zeros(size),
            "step_changes": np.zeros((size, size)),  # p_i.y_j, for pairs i not newer than j
            "change_changes": np.zeros((size, size)),  # y_i.y_j
        }

    @property
    def pairs(self) -> list[int]:
        """Return the slots of the pairs, from the oldest to the newest."""
        return [int(i) for i in self._numbers["pairs"]]

    def clear(self) -> None:
        """Remove all pairs."""
        self._numbers["pairs"] = np.zeros(0, np.int64)

    @property
    def free(self) -> int:
        """Return the slot of the next pair."""
        return next(i for i in range(self._memory + 1) if i not in self.pairs)

    @property
    def direction(self) -> Vector:
        """Return the direction of the next step, in the free slot."""
        row: Vector = self._rows[self._step(self.free)]
        return row

    @property
    def change(self) -> Vector:
        """Return the change of the gradient along the next step, in the free slot."""
        row: Vector = self._rows[self._change(self.free)]
        return row

    def _rows_of(self, pairs: Sequence[int]) -> list[int]:
        """Return the rows of the slots' directions, then of their changes."""
        return [*map(self._step, pairs), *map(self._change, pairs)]

    def products(self, space: VectorSpace) -> NDArray[Any]:
        """Return the inner products of the gradient with all directions, with all changes and with itself."""
        found: NDArray[Any] = space.dots(self._rows, self._rows[:1])[[*self._rows_of(self.pairs), 0], 0]
        return found

    def add(self, space: VectorSpace, length: float) -> NDArray[Any]:
        """Add the pair in the free slot if its curvature is positive, and return products() of the new gradient.

        Args:
            space: the space of the vectors.
            length: the length t of the step along the direction.
        """
        new, before = self.free, self.pairs
        pairs, row = [*before, new], self._change(new)
        found = space.dots(self._rows, self._rows[::row][:2])  # with the gradient and with the new change
        with_gradient, with_change = found[:, 0], found[:, 1]
        curvature, square = with_change[self._step(new)], with_change[row]
        if length * curvature > np.finfo(self._rows.dtype).eps * square:  # Byrd et al. 1995, equation 3.9
            self._numbers["lengths"][new] = length
            self._numbers["step_changes"][pairs, new] = with_change[[*map(self._step, pairs)]]
            for table in (self._numbers["change_changes"], self._numbers["change_changes"].T):
                table[new, pairs] = with_change[[*map(self._change, pairs)]]
            self._numbers["pairs"] = np.array(pairs[-self._memory :], np.int64)
        products: NDArray[Any] = with_gradient[[*self._rows_of(self.pairs), 0]]
        return products

    def find_direction(self, space: VectorSpace, products: NDArray[Any]) -> float:
        """Write the next direction -H g to the free slot, and return the slope g.p along it.

        Args:
            space: the space of the vectors.
            products: of the gradient, as products() returns them.
        """
        step_coefficients, change_coefficients, gradient_coefficient = self._coefficients(products)
        coefficients = np.array([*step_coefficients, *change_coefficients, gradient_coefficient])
        numbers = np.zeros(len(self._rows))
        numbers[[*self._rows_of(self.pairs), 0]] = -coefficients
        space.combine(numbers, self._rows, self.direction)
        return -float(np.dot(coefficients, products))

    def _coefficients(self, products: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
        """Return the coefficients of H g, of all directions p_i, all changes y_i, and the gradient.

        The two-loop recursion (Nocedal and Wright 2006, Algorithm 7.4) on inner products: its vectors q and r are
        represented by the coefficients alpha of the y_i and beta of the s_i in them.
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

"""The inverse of the damped Kronecker approximation of the Fisher matrix, and its product with a gradient.

With factors A and G of a layer and the damping g, the inverse is (A + pi g I)^-1 x (G + g / pi I)^-1, with pi the root
of the ratio of the mean diagonal elements of A and G (Martens and Grosse 2015, section 6.3). The diagonal of the Fisher
matrix, for parameters without factors, is damped by g^2. Each matrix is inverted by one rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dbp.optim.blockwise import cache_blocks
from dbp.optim.parameter_blocks import slices_of
from dbp.optim.protocols import KroneckerFactors, KroneckerLayer, Vector, VectorSpace
from dbp.types import Array

SQUARES = "squares/"
INVERSE = "inverse_"  # before the name of a factor, among the numbers of a state
MIN_MEAN = 1e-30  # of the diagonal of a factor, which may be zero


class _Job(NamedTuple):
    """The direction of one parameter, a piece of work for one rank.

    Args:
        name: of the parameter.
        where: its range in the flat weights.
        layer: that it belongs to; None without Kronecker form.
        work: multiplications that it takes.
    """

    name: str
    where: slice
    layer: KroneckerLayer | None
    work: int


class KroneckerInverse:
    """The running averages of all factors, their damped inverses, and products of these with gradients.

    Args:
        factors: the source of the layers, the space and the vectors.
        space: of the flat weights.
    """

    def __init__(self, factors: KroneckerFactors, space: VectorSpace):
        self._space, self._factor_space = space, factors.space
        self.averages, self.inverses = factors.vectors[0], factors.vectors[1]
        self._layers = factors.layers
        self._where = slices_of(factors.space.shapes)
        self._jobs = self._direction_jobs(factors, space)
        matrices = [(layer, name) for layer in factors.layers for name in _names(layer)]
        self._matrices = sorted(matrices, key=lambda pair: -factors.space.shapes[pair[1]][0])

    def _direction_jobs(self, factors: KroneckerFactors, space: VectorSpace) -> list[_Job]:
        """Return a job for each parameter, the one with most work first, to balance the load of the ranks."""
        where = slices_of(space.shapes)
        of_weight = {layer.weight: layer for layer in factors.layers}
        of_bias = {layer.bias: layer for layer in factors.layers if layer.bias}
        jobs = []
        for name, span in where.items():
            layer = of_weight.get(name) or of_bias.get(name)
            rows = 0 if layer is None else layer.inputs if name in of_weight else 1
            work = rows * layer.units * (layer.inputs + layer.units) if layer else span.stop - span.start
            jobs.append(_Job(name, span, layer, work))
        return sorted(jobs, key=lambda job: -job.work)

    def views(self, vector: Vector) -> dict[str, Array]:
        """Return the factors in a vector by name."""
        shapes = self._factor_space.shapes
        return {name: vector[span].reshape(shapes[name]) for name, span in self._where.items()}

    def share(self, numbers: dict[str, Array]) -> None:
        """Take over averages and inverses from the numbers of a state, if it has them, and put views of them there.

        The numbers of a checkpoint are copies on each rank; the views are of vectors that ranks share.
        """
        averages, inverses = self.views(self.averages), self.views(self.inverses)
        views = averages | {INVERSE + name: inverses[name] for _, name in self._matrices}
        if all(name in numbers for name in views):
            for vector, prefix in ((self.averages, ""), (self.inverses, INVERSE)):
                self._write(vector, {name: numbers[prefix + name] for name in self._where if prefix + name in views})
        numbers.update(views)

    def _write(self, vector: Vector, arrays: Mapping[str, Array]) -> None:
        """Write arrays at their offsets in a vector, where this rank owns it."""
        for name, array in arrays.items():
            where, flat = self._where[name], array.reshape(-1)
            for part in self._factor_space.owned:
                start, stop = max(where.start, part.start), min(where.stop, part.stop)
                if start < stop:
                    vector[start:stop] = flat[start - where.start : stop - where.start]
        self._factor_space.fence(vector)

    def average(self, total: Vector, decay: float) -> None:
        """Update the running averages: m = decay m + (1 - decay) total."""
        keep = total.dtype.type(decay)
        for block in cache_blocks(self._factor_space.owned):
            if keep:
                self.averages[block] *= keep
                self.averages[block] += (1 - keep) * total[block]
            else:
                self.averages[block] = total[block]
        self._factor_space.fence(self.averages)

    def invert(self, damping: float) -> None:
        """Write the damped inverses of the running averages of all factors."""
        averages, inverses = self.views(self.averages), self.views(self.inverses)
        self._factor_space.fence(self.inverses)
        for number in self._factor_space.jobs(len(self._matrices)):
            layer, name = self._matrices[number]
            matrix = _damped(layer, averages, damping)[name]
            found = np.linalg.inv(matrix)
            inverses[name][...] = (found + found.T) / 2
        self._factor_space.fence_jobs(self.inverses, [self._where[name] for _, name in self._matrices])

    def write_direction(self, gradient: Vector, damping: float, target: Vector) -> None:
        """Write minus the inverse times a gradient to a vector.

        Args:
            gradient: that all of may be read.
            damping: of parameters without Kronecker form, squared.
            target: the vector.
        """
        averages, inverses = self.views(self.averages), self.views(self.inverses)
        self._space.fence(target)
        for number in self._space.jobs(len(self._jobs)):
            name, where, layer, _ = self._jobs[number]
            if layer is None:
                squares = averages[SQUARES + name].reshape(-1)
                target[where] = -gradient[where] / (squares + squares.dtype.type(damping**2))
            else:
                target[where] = -self._product(layer, name, gradient, inverses).reshape(-1)
        self._space.fence_jobs(target, [job.where for job in self._jobs])

    def _product(self, layer: KroneckerLayer, name: str, gradient: Vector, inverses: Mapping[str, Array]) -> Array:
        """Return the rows of A^-1 V G^-1 that belong to a layer's weight or bias, V the gradient as a matrix."""
        inputs, deltas = (inverses[name] for name in _names(layer))
        where = slices_of(self._space.shapes)
        rows = inputs[-1:] if name == layer.bias else inputs[:-1] if layer.bias else inputs
        of_weight = gradient[where[layer.weight]].reshape(-1, layer.units)
        product = rows[:, : len(of_weight)] @ of_weight
        if layer.bias:
            product += rows[:, -1:] * gradient[where[layer.bias]]
        return product @ deltas


def _names(layer: KroneckerLayer) -> tuple[str, str]:
    """Return the names of the two factors of a layer."""
    return f"inputs/{layer.weight}", f"deltas/{layer.weight}"


def _damped(layer: KroneckerLayer, averages: Mapping[str, Array], damping: float) -> dict[str, Array]:
    """Return the damped factors of a layer by name, float64."""
    names = _names(layer)
    inputs, deltas = (averages[name].astype(np.float64) for name in names)
    if layer.is_tied:
        inputs, deltas = _with_tied(inputs, deltas, *(averages[f"transposed_{name}"] for name in names))
    ratio = math.sqrt(_mean(inputs) / _mean(deltas))
    for matrix, added in ((inputs, ratio * damping), (deltas, damping / ratio)):
        matrix[np.diag_indices_from(matrix)] += added
    return dict(zip(names, (inputs, deltas), strict=True))


def _mean(matrix: Array) -> float:
    """Return the mean of the diagonal, positive even if the matrix is zero."""
    return max(float(np.trace(matrix, dtype=np.float64)) / len(matrix), MIN_MEAN)


def _with_tied(a: Array, g: Array, tied_a: Array, tied_g: Array) -> tuple[Array, Array]:
    """Return the factors of one product that is about the sum A x G + G' x A' of sums with W and with W^T.

    It is (A + s G') x (G + A' / s), with the s that makes the trace of what this adds to the sum least, as pi does for
    damping.

    Args:
        a: A of the sums with W.
        g: G of them.
        tied_a: A' of the sums with W^T.
        tied_g: G' of them.
    """
    s = math.sqrt(_mean(a) * _mean(tied_a) / (_mean(tied_g) * _mean(g)))
    return a + s * tied_g, g + tied_a / s

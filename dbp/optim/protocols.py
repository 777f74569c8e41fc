"""What an optimizer asks for: the cost of a mini-batch, its derivatives, and the space of the flat vectors.

They give the same numbers on every rank, so an optimizer is serial NumPy code that never communicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

Vector = NDArray[Any]  # flat: the elements of all parameters, in their order
# Some vectors, or an array whose rows they are; as in parallel/vectors/products.py.
Rows = Sequence[Vector] | NDArray[Any]


class Arriving(Protocol):
    """A gradient that is known to be finite and still arrives, from its end to its start.

    The same protocol stands in parallel/sums/vector_sum.py, as optim/ and parallel/ do not import each other.
    """

    def wait_for(self, part: slice) -> None:
        """Return when this range of the gradient has arrived."""
        ...

    def complete(self) -> None:
        """Return when all of the gradient has arrived; call it before any other call of cost or space."""
        ...


class RowGradient(Protocol):
    """The gradient by rows of a table, zero by all others, as cost/row_gradients.py has it."""

    @property
    def name(self) -> str:
        """Return the name of the parameter."""
        ...

    @property
    def sparse(self) -> bool:
        """Return True if only the rows with a gradient are to be changed, with the optimizer's vectors in them."""
        ...

    @property
    def part(self) -> slice:
        """Return its range of the flat vectors, which the owned ranges of the space leave out."""
        ...

    @property
    def owned(self) -> Sequence[slice]:
        """Return the ranges of it, cut between rows, that this rank writes."""
        ...

    @property
    def numbers(self) -> NDArray[Any]:
        """Return the numbers of the rows that this rank updates, in rising order."""
        ...

    @property
    def values(self) -> NDArray[Any]:
        """Return the gradient by these rows, (rows, units)."""
        ...

    @property
    def square(self) -> float:
        """Return the sum of squares over the rows of all ranks."""
        ...


class Evaluated(Protocol):
    """The cost and its gradient at some weights."""

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses."""
        ...

    @property
    def gradient(self) -> Vector:
        """Return the gradient by the flat weights; valid in the owned ranges, until the next call of the cost."""
        ...

    @property
    def finite(self) -> bool:
        """Return True if cost and gradient are finite."""
        ...

    @property
    def arriving(self) -> Arriving | None:
        """Return what to wait on before the gradient is read, or None if all of it has arrived."""
        ...

    @property
    def rows(self) -> Sequence[RowGradient]:
        """Return the gradients by rows of tables, which come after all other parameters in the flat weights."""
        ...


E = TypeVar("E", bound=Evaluated)
E_co = TypeVar("E_co", bound=Evaluated, covariant=True)


class Space(Protocol):
    """The space of the flat vectors: the ranges that this rank owns, and norms with the same bits on every rank."""

    @property
    def owned(self) -> Sequence[slice]:
        """Return the ranges of each vector that this rank writes; other ranks write the rest."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the parameters, by name, in the order of the flat vector."""
        ...

    @property
    def changing(self) -> AbstractContextManager[None]:
        """Return a context for changes of weights and vectors; outside of it they are those of a step's end."""
        ...

    def dot(self, a: Vector, b: Vector) -> float:
        """Return the inner product of two vectors."""
        ...

    def squares(self, vector: Vector) -> NDArray[Any]:
        """Return the sum of squares of each parameter's elements, float64, shape (parameters,)."""
        ...


class VectorSpace(Space, Protocol):
    """A space with inner products of many vectors, and with jobs that are divided among ranks."""

    def dots(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Return the inner products of each left vector with each right one, float64, shape (left, right), in one pass.

        This is fastest if both are the rows of an array.
        """
        ...

    def combine(self, coefficients: NDArray[Any], rows: NDArray[Any], target: Vector) -> None:
        """Write the linear combination of rows to a vector, which may be one of them if its coefficient is 0."""
        ...

    def fence(self, vector: Vector) -> None:
        """Return when all of a vector may be read, until a rank writes to it again."""
        ...

    def jobs(self, count: int) -> range:
        """Return which of `count` jobs, each of which writes a part of a vector, this rank does."""
        ...

    def fence_jobs(self, vector: Vector, parts: Sequence[slice]) -> None:
        """Return when these parts of a vector may be read, each written by the rank with its job."""
        ...


class Root(Protocol):
    """The rank that computes for all, where a computation cannot be divided among ranks, and its messages."""

    @property
    def is_root(self) -> bool:
        """Return True on the rank that computes for all."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Return the root's value (any small object) on every rank."""
        ...

    def broadcast_vector(self, vector: Vector) -> None:
        """Write the root's copy of a whole vector to the copies of all ranks."""
        ...

    def gather_vector(self, vector: Vector) -> Vector:
        """Return a whole vector on the root; on other ranks only its owned ranges are valid."""
        ...


class Curvature(Protocol):
    """The second derivatives of the cost at some weights, which cost/curvature.py computes.

    Results are valid until the next call of the curvature or the cost. J is the Jacobian of the outputs by the
    weights, H the Hessian of the cost by the outputs.
    """

    def hessian_product(self, vector: Vector) -> Vector:
        """Return the Hessian times a vector."""
        ...

    def gauss_newton_product(self, vector: Vector) -> Vector:
        """Return the Gauss-Newton matrix J^T H J times a vector."""
        ...

    def gauss_newton_matrix(self) -> NDArray[Any]:
        """Return all of J^T H J, float64, shape (weights, weights), with the same bits on every rank."""
        ...

    def gauss_newton_forms(self, vectors: Sequence[Vector]) -> NDArray[Any]:
        """Return the inner products v_i^T J^T H J v_j of vectors, float64, shape (vectors, vectors)."""
        ...

    def squared_gradients(self, probes: int) -> Vector:
        """Return the weighted mean of the squared gradients of the single examples.

        Args:
            probes: the number of gradients with random signs from which it is estimated (Hutchinson 1989).
        """
        ...


class KroneckerLayer(Protocol):
    """A weight matrix of which the Fisher matrix is about a Kronecker product, as in cost/kronecker_layers.py."""

    @property
    def weight(self) -> str:
        """Return the name of the weight; all its axes but the last are the rows of the matrix."""
        ...

    @property
    def bias(self) -> str:
        """Return the name of the bias, which is a last row of the matrix; "" for none."""
        ...

    @property
    def inputs(self) -> int:
        """Return the number of rows of the matrix, that of the bias included."""
        ...

    @property
    def units(self) -> int:
        """Return the number of columns of the matrix."""
        ...

    @property
    def is_tied(self) -> bool:
        """Return True if the transpose of the weight is used too, which has factors of its own."""
        ...


class KroneckerFactors(Protocol):
    """The factors of the Fisher matrix of a mini-batch, which cost/kronecker_factors.py computes.

    They lie in a vector of a space of its own: for each layer "inputs/<weight>" (inputs, inputs) and "deltas/<weight>"
    (units, units), for all other parameters "squares/<parameter>", the diagonal of the Fisher matrix. A tied layer has
    "transposed_inputs/<weight>" (units, units) and "transposed_deltas/<weight>" (inputs, inputs) too.
    """

    @property
    def layers(self) -> Sequence[KroneckerLayer]:
        """Return the weights with a Kronecker form."""
        ...

    @property
    def space(self) -> VectorSpace:
        """Return the space of the factors."""
        ...

    @property
    def vectors(self) -> NDArray[Any]:
        """Return two vectors of the space, as rows, for the use of the optimizer."""
        ...

    @property
    def total(self) -> Vector:
        """Return the factors of the mini-batch, valid in the owned ranges of the space."""
        ...

    @property
    def finite(self) -> bool:
        """Return True if all factors of the mini-batch are finite."""
        ...


class MiniBatchCost(Protocol[E_co]):
    """The cost of a mini-batch as a function of the flat weights, and its derivatives.

    cost/mini_batch_cost.py implements it.
    """

    @property
    def space(self) -> VectorSpace:
        """Return the space of the weights."""
        ...

    @property
    def root(self) -> Root:
        """Return the rank that computes for all, for methods that need one."""
        ...

    @property
    def is_deterministic(self) -> bool:
        """Return True if it is the same function at every step: a full batch, and nothing random."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of mini-batches that together hold every example once; 0 if that is not known."""
        ...

    def value_and_gradient(self, weights: Vector, early: bool = False) -> E_co:
        """Return cost and gradient at these weights.

        Args:
            weights: the flat weights.
            early: whether to return as soon as the gradient is known to be finite, while it may still be arriving.
        """
        ...

    def value(self, weights: Vector) -> float:
        """Return the cost at these weights."""
        ...

    def curvature(self, weights: Vector, part: float = 1.0) -> Curvature:
        """Return the second derivatives at these weights, which must not change while they are used.

        Args:
            weights: the flat weights.
            part: the part of the mini-batch to use, above 0 and at most 1.
        """
        ...

    def kronecker_factors(self, weights: Vector, part: float, longest: int) -> KroneckerFactors:
        """Return the Kronecker factors of the Fisher matrix at these weights.

        Args:
            weights: the flat weights.
            part: the part of the mini-batch to use, above 0 and at most 1.
            longest: the largest number of rows of a factor; weights with larger ones have none.
        """
        ...

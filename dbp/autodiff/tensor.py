"""The graph: tensors that remember which primitive made them from which inputs.

A primitive called on plain arrays just computes; called with a tensor among its inputs it also records
a node. Derivative rules are written with the same primitives, so that they run on arrays, without a
graph, for a first derivative, and on tensors when the derivative will be differentiated again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.autodiff.guard import watching

Array = NDArray[Any]
Value = Any  # an array, a number or a Tensor: what primitives and rules take and give
Rule = Callable[..., Value]

PRIMITIVES: dict[str, Primitive] = {}
_creation = itertools.count()


class ShapeError(ValueError):
    """Inputs whose shapes do not fit an operation."""


class Primitive:
    """An elementary operation, with its derivatives.

    value(*inputs, **options)                  the result on plain arrays
    reverse[i](g, out, *inputs, **options)     the cotangent of input i, from that of the output, g
    forward[i](t, out, *inputs, **options)     the part of the output's tangent that input i's, t, causes

    A rule that is None says that the output does not change smoothly with this input. Where any number of
    inputs is taken, one rule is given the input's number first: reverse(i, g, out, *inputs, **options).
    """

    takes_places = False  # whether pull() can write cotangents where the option `places` says

    def __init__(
        self,
        name: str,
        value: Callable[..., Any],
        reverse: Sequence[Rule | None] | Rule,
        forward: Sequence[Rule | None] | Rule,
    ):
        self.name, self.value, self.reverse, self.forward = name, value, reverse, forward
        PRIMITIVES[name] = self

    def __call__(self, *inputs: Value, **options: Any) -> Any:
        """The value on plain arrays; a node of the graph if a tensor is among the inputs."""
        for x in inputs:
            if type(x) is Tensor:
                values = [x.value if type(x) is Tensor else x for x in inputs]
                return recorded(self._compute(values, options), self, inputs, options, options)
        return self._compute(inputs, options)

    def _compute(self, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        try:
            return self.value(*inputs, **options)
        except (ValueError, IndexError) as error:
            if isinstance(error, ShapeError):
                raise
            shapes = " and ".join(str(np.shape(x)) for x in inputs)
            raise ShapeError(f"{self.name} of shapes {shapes}: {error}") from None

    def pull(self, g: Value, y: Value, inputs: Sequence[Value], options: Any, wanted: Sequence[bool]) -> list[Value]:
        """The cotangents of the wanted inputs, None for the others."""
        rules = _rules(self.reverse, len(inputs))
        return [
            rule(g, y, *inputs, **options) if want and rule is not None else None
            for rule, want in zip(rules, wanted, strict=True)
        ]

    def push(self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Any) -> Value | None:
        """The output's tangent, from those of the inputs that have one; None if it has none."""
        total: Value | None = None
        for t, rule in zip(tangents, _rules(self.forward, len(inputs)), strict=True):
            if t is not None and rule is not None:
                part = rule(t, y, *inputs, **options)
                total = part if total is None else total + part
        return total

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _rules(rules: Sequence[Rule | None] | Rule, count: int) -> Sequence[Rule | None]:
    return [functools.partial(rules, i) for i in range(count)] if callable(rules) else rules


def _operator(name: str, swapped: bool = False) -> Callable[..., Any]:
    """The method of an operator: looks its primitive up when called, as primitives come after tensors."""

    def method(self: Tensor, *others: Value) -> Value:
        return PRIMITIVES[name](*others, self) if swapped else PRIMITIVES[name](self, *others)

    return method


class Tensor:
    """An array in the graph: a leaf (no primitive), or what a primitive made of its inputs."""

    __slots__ = ("created", "inputs", "options", "primitive", "value")
    __array_ufunc__ = None  # so that `array * tensor` asks the tensor

    def __init__(
        self,
        value: Any,
        primitive: Primitive | None = None,
        inputs: tuple[Value, ...] = (),
        options: dict[str, Any] | None = None,
    ):
        self.value: Array = value if isinstance(value, np.ndarray) else np.asarray(value)
        self.primitive, self.inputs, self.options = primitive, inputs, options or {}
        self.created = next(_creation)  # inputs come before outputs in this order

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's type."""
        return self.value.dtype

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        made_by = self.primitive.name if self.primitive else "leaf"
        return f"Tensor({made_by}, shape={self.shape}, {self.dtype})"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __getitem__(self, index: Any) -> Value:
        return PRIMITIVES["take"](self, index=index)

    def __setitem__(self, index: Any, value: Value) -> None:
        raise TypeError("a recorded array cannot be changed in place; make a new one, with where() for instance")

    @property
    def T(self) -> Value:  # noqa: N802
        """The transpose, as NumPy names it."""
        return PRIMITIVES["transpose"](self)

    __add__, __radd__ = _operator("add"), _operator("add", swapped=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", swapped=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", swapped=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", swapped=True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", swapped=True)
    __pow__, __rpow__ = _operator("power"), _operator("power", swapped=True)
    __neg__ = _operator("negative")


def recorded(
    output: Any, primitive: Primitive, inputs: tuple[Value, ...], options: dict[str, Any], given: dict[str, Any]
) -> Tensor:
    """A node of the graph; while a transformation records, what it was given is kept from changes."""
    if watching.guard is not None:
        watching.guard.keep(inputs)
        watching.guard.keep(given.values())
    return Tensor(output, primitive, inputs, options)


def array_of(x: Value) -> Array:
    """The plain array of a tensor, an array or a number."""
    return x.value if type(x) is Tensor else np.asarray(x)

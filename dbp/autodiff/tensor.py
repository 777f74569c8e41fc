"""The graph: tensors, each with the primitive and the inputs that it was computed from.

A primitive called on plain arrays only computes. Called with a tensor among its inputs it also records a node.
Derivative rules are written with the same primitives: they run on arrays, without a graph, for a first derivative, and
on tensors if the derivative will be differentiated again.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff.write_protection import active
from dbp.types import Array

Value = Any  # an array, a number or a Tensor: the arguments and results of primitives and rules
Rule = Callable[..., Value]

PRIMITIVES: dict[str, Primitive] = {}
NUMPY_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}  # what NumPy's functions are on tensors
_creation = itertools.count()


class ShapeError(ValueError):
    """An operation on inputs whose shapes do not fit."""


def _nobody_waits(start: int) -> None:
    """Do nothing with the number of the first element from which on all are final."""


class OutputSlot(NamedTuple):
    """A caller's array for a cotangent, to be filled from its end to its start."""

    array: Array
    on_ready: Callable[[int], None] = _nobody_waits  # called with i as soon as all elements from i on are final


class PlannedNode(NamedTuple):
    """Two functions that compute a node of a graph again, on memory that stays where it is.

    Args:
        forward: takes nothing; writes the output.
        backward: takes the cotangent of the output, and for each input the array to write its cotangent to, or None.
        has_cotangent: for each input, whether backward() computes its cotangent.
        reads_list: whether both look the inputs up in their list in each pass, so that other arrays can be put there.
    """

    forward: Callable[[], object]
    backward: Callable[[Array, Sequence[Array | None]], object]
    has_cotangent: Sequence[bool]
    reads_list: bool = False


class Primitive:
    """An elementary operation with its derivatives.

    value(*inputs, **options)                  the result on plain arrays
    reverse[i](g, out, *inputs, **options)     the cotangent of input i for the cotangent g of the output
    forward[i](t, out, *inputs, **options)     the tangent of the output for the tangent t of input i

    A rule that is None states that the derivative by this input is zero or does not exist. A primitive of any number of
    inputs has one rule instead of a list, with the number of the input first: reverse(i, g, out, *inputs, **options).
    """

    takes_output_slots = False  # whether pull() reads the option `slots`: per input, where to write, or None
    takes_memory = False  # whether pull() reads the option `memory`: g, if it may be written to
    new_cotangents = False  # whether pull() returns arrays that nobody else has
    separable = False  # whether calling pull() for some inputs first, for the others later, costs little more
    max_inputs = sys.maxsize  # positional arguments after these are options

    def __init__(
        self,
        name: str,
        value: Callable[..., Any],
        reverse: Sequence[Rule | None] | Rule,
        forward: Sequence[Rule | None] | Rule,
    ):
        self.name, self.value, self.reverse, self.forward = name, value, reverse, forward
        if not callable(reverse):
            self.max_inputs = len(reverse)
        PRIMITIVES[name] = self

    def __call__(self, *inputs: Value, **options: Any) -> Any:
        """Return the value on plain arrays; a node of the graph if a tensor is among the inputs."""
        if len(inputs) > self.max_inputs:
            inputs, options = inputs[: self.max_inputs], self._named(inputs[self.max_inputs :]) | options
        recording = lists = False
        for x in inputs:
            kind = type(x)
            recording |= kind is Tensor
            lists |= kind is list or kind is tuple
        if recording:
            if lists:  # rules expect arrays
                inputs = tuple(np.asarray(x) if isinstance(x, (list, tuple)) else x for x in inputs)
            values = [x.value if type(x) is Tensor else x for x in inputs]
            return new_node(self._compute(values, options), self, inputs, options, options)
        return self._compute(inputs, options)

    def _named(self, options: tuple[Any, ...]) -> dict[str, Any]:
        """Return options that were given by position, after the inputs, by name."""
        count = self.max_inputs
        names = [] if isinstance(self.value, np.ufunc) else [*inspect.signature(self.value).parameters][count:]
        if len(options) > len(names):
            taken = f" and the options {', '.join(names)}" if names else ""
            raise TypeError(f"{self.name} takes {count} inputs{taken}, but {count + len(options)} were given")
        return dict(zip(names, options, strict=False))

    def _compute(
        self, inputs: Sequence[Any], options: dict[str, Any], function: Callable[..., Any] | None = None
    ) -> Any:
        """Return the value, or what another function of the same inputs returns; ShapeError if they do not fit."""
        try:
            return (function or self.value)(*inputs, **options)
        except (ValueError, IndexError) as error:
            if isinstance(error, ShapeError):
                raise
            shapes = " and ".join(str(np.shape(x)) for x in inputs)
            rule = (
                "lengths must be equal, or 1, axis by axis from the last" if isinstance(self.value, np.ufunc) else error
            )
            raise ShapeError(f"{self.name} of shapes {shapes}: {rule}") from None

    def pull(self, g: Value, y: Value, inputs: Sequence[Value], options: Any, wanted: Sequence[bool]) -> list[Value]:
        """Return the cotangents of the wanted inputs, None for the others."""
        rules = _rules(self.reverse, len(inputs))
        return [
            rule(g, y, *inputs, **options) if want and rule is not None else None
            for rule, want in zip(rules, wanted, strict=True)
        ]

    def push(self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Any) -> Value | None:
        """Return the output's tangent, the sum over the inputs that have one; None if none has."""
        total: Value | None = None
        for t, rule in zip(tangents, _rules(self.forward, len(inputs)), strict=True):
            if t is not None and rule is not None:
                part = rule(t, y, *inputs, **options)
                total = part if total is None else total + part
        return total

    def plan(self, inputs: Sequence[Any], options: dict[str, Any], output: Array) -> PlannedNode:
        """Return the functions that compute this again for other numbers in the same arrays.

        Args:
            inputs: arrays, and numbers that stay as they are; see PlannedNode.reads_list.
            options: likewise.
            output: the array for the output.
        """
        value = self.value

        def forward() -> None:
            output[...] = value(*inputs, **options)

        def backward(g: Array, targets: Sequence[Array | None]) -> None:
            wanted = [target is not None for target in targets]
            write_parts(self.pull(g, output, inputs, options, wanted), targets)

        in_place = isinstance(value, np.ufunc) and not options
        has_cotangent = [rule is not None for rule in _rules(self.reverse, len(inputs))]
        return PlannedNode(functools.partial(value, *inputs, output) if in_place else forward, backward, has_cotangent)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def write_parts(parts: Sequence[Array | None], targets: Sequence[Array | None]) -> None:
    """Write cotangents to their targets, unless they are there already; ignore those without a target."""
    for part, target in zip(parts, targets, strict=True):
        if target is not None and part is not target:
            target[...] = part


def _rules(rules: Sequence[Rule | None] | Rule, count: int) -> Sequence[Rule | None]:
    return [functools.partial(rules, i) for i in range(count)] if callable(rules) else rules


def _operator(name: str, swapped: bool = False) -> Callable[..., Any]:
    """Return the method of an operator; it looks up its primitive when called, as primitives are defined later."""

    def method(self: Tensor, *others: Value) -> Value:
        return PRIMITIVES[name](*others, self) if swapped else PRIMITIVES[name](self, *others)

    return method


def _method(name: str) -> Callable[..., Any]:
    """Return the method of an array that is NumPy's function of this name, which __array_function__ receives."""
    return lambda self, *arguments, **options: getattr(np, name)(self, *arguments, **options)


def _comparison(compare: np.ufunc) -> Callable[[Tensor, Any], Any]:
    """Return the method of a comparison; its result is a plain array of booleans, as it has no derivative."""
    return lambda self, other: compare(self.value, array_of(other))


SHAPE_FUNCTIONS = {np.shape, np.ndim, np.size}


def name_of_numpy(function: Callable[..., Any]) -> str:
    """Return the name of a function of NumPy as users write it."""
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{function.__name__}"


def _call_numpy(function: Callable[..., Any], inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what a function of NumPy returns for tensors; raise TypeError if it records no derivative."""
    if function not in NUMPY_FUNCTIONS:
        raise _refusal(name_of_numpy(function), function.__name__)
    return NUMPY_FUNCTIONS[function](*inputs, **options)


def _refusal(name: str, primitive: str = "") -> TypeError:
    """Return the error for a function of NumPy that records no derivative."""
    instead = f"dbp.autodiff.{primitive}" if primitive in PRIMITIVES else "functions of dbp.autodiff"
    return TypeError(f"{name} records no derivative; use {instead}, or array_of(x) for plain numbers")


def complex_error(what: str, array: Array) -> TypeError:
    """Return the error for complex numbers, whose derivatives the rules of the primitives do not compute."""
    return TypeError(f"{what} must be real, but is {array.dtype}; keep real and imaginary parts in arrays of their own")


class Tensor:
    """An array in the graph: a leaf (without primitive), or the output of a primitive."""

    __slots__ = ("created", "inputs", "options", "primitive", "value")

    def __init__(
        self,
        value: Any,
        primitive: Primitive | None = None,
        inputs: tuple[Value, ...] = (),
        options: dict[str, Any] | None = None,
    ):
        self.value: Array = value if isinstance(value, np.ndarray) else np.asarray(value)
        if self.value.dtype.kind == "c":
            raise complex_error(f"the result of {primitive.name}" if primitive else "a leaf", self.value)
        self.primitive, self.inputs, self.options = primitive, inputs, options or {}
        self.created = next(_creation)  # a serial number; inputs have smaller ones than outputs

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

    def __float__(self) -> float:
        raise TypeError("float(x) of a recorded x loses its derivative; take x itself, or float(array_of(x))")

    def __iter__(self) -> Iterator[Value]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return array_of(x) in self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise TypeError(
            "a recorded array is not made a plain one, as its derivative would be lost: use the functions of "
            "dbp.autodiff, stack() for a list of recorded arrays, or array_of(x) for the plain numbers of x"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply the operators between arrays and tensors, and the elementwise functions that dbp.autodiff has."""
        if method != "__call__":
            raise _refusal(f"np.{ufunc.__name__}.{method}")
        return _call_numpy(ufunc, inputs, options)

    def __array_function__(self, function: Callable[..., Any], _: Any, inputs: Any, options: Any) -> Any:
        """Apply the functions of NumPy that dbp.autodiff has; refuse others."""
        if function in SHAPE_FUNCTIONS:
            return function(self.value, *inputs[1:], **options)
        return _call_numpy(function, inputs, options)

    def __getitem__(self, index: Any) -> Value:
        return PRIMITIVES["take"](self, index=index)

    def __setitem__(self, index: Any, value: Value) -> None:
        raise TypeError("a recorded array cannot be changed in place; make a new one, with where() for instance")

    @property
    def T(self) -> Value:  # noqa: N802
        """The transpose, as NumPy names it."""
        return PRIMITIVES["transpose"](self)

    sum, mean, prod, cumsum = _method("sum"), _method("mean"), _method("prod"), _method("cumsum")
    max, min, var, std = _method("max"), _method("min"), _method("var"), _method("std")
    argmax, argmin, argsort, any, all = map(_method, ("argmax", "argmin", "argsort", "any", "all"))
    ravel, flatten, squeeze, swapaxes = _method("ravel"), _method("ravel"), _method("squeeze"), _method("swapaxes")
    clip, dot, repeat, take, trace, copy = map(_method, ("clip", "dot", "repeat", "take", "trace", "copy"))

    def reshape(self, *shape: Any) -> Value:
        """Return the elements in another shape, given as one tuple or as several lengths."""
        return PRIMITIVES["reshape"](self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Value:
        """Return the axes in another order, given as one tuple or as several numbers; by default in reverse."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return PRIMITIVES["transpose"](self, axes=order)

    __add__, __radd__ = _operator("add"), _operator("add", swapped=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", swapped=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", swapped=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", swapped=True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", swapped=True)
    __pow__, __rpow__ = _operator("power"), _operator("power", swapped=True)
    __neg__, __abs__, __pos__ = _operator("negative"), _operator("abs"), _operator("identity")
    __eq__, __ne__ = _comparison(np.equal), _comparison(np.not_equal)
    __lt__, __le__ = _comparison(np.less), _comparison(np.less_equal)
    __gt__, __ge__ = _comparison(np.greater), _comparison(np.greater_equal)
    __hash__ = object.__hash__


def new_node(
    output: Any, primitive: Primitive, inputs: tuple[Value, ...], options: dict[str, Any], given: dict[str, Any]
) -> Tensor:
    """Return a node of the graph; while a transformation records, its inputs and `given` options are protected."""
    protection = active.protection
    if protection is not None:
        protection.protect(inputs)
        if given:
            protection.protect(given.values())
    return Tensor(output, primitive, inputs, options)


def array_of(x: Value) -> Array:
    """Return the plain array of a tensor, of an array or of a number.

    Args:
        x: of any shape; the array of a tensor is read-only, as derivatives depend on it.
    """
    if type(x) is not Tensor:
        return np.asarray(x)
    view = x.value.view()
    view.flags.writeable = False
    return view

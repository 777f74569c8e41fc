"""The steps of a list of layers: one layer each, or two that are computed at once, such as convolution and pooling."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from dbp.autodiff import ShapeError, Value
from dbp.errors import UserError
from dbp.nn.layers.convolution import PoolError
from dbp.nn.layers.layer import Layer, error_in
from dbp.nn.scope import Scope


class Step(NamedTuple):
    """A layer to apply, alone or fused with the layer after it.

    Args:
        name: of the layer.
        layer: the layer.
        takes: the names of what it takes; empty for the outputs of the step before.
        follows: whether `takes` is the outputs of the layer before alone.
        weights: the name of the layer whose weights it uses; empty for its own.
        after_name: the name of the layer after it that is fused with it; empty without one.
        after: that layer; None without one.
        fused: computes both layers at once; None without one.
    """

    name: str
    layer: Layer
    takes: tuple[str, ...] = ()
    follows: bool = True
    weights: str = ""
    after_name: str = ""
    after: Layer | None = None
    fused: Callable[[Scope, Any], Value] | None = None

    @property
    def output(self) -> str:
        """Return the name of the step's outputs, which is that of its last layer."""
        return self.after_name or self.name

    def apply(self, scope: Scope, x: Value, mask: Any) -> tuple[Value, Any]:
        """Return the outputs of the layer, and their mask.

        Args:
            scope: of the list of layers.
            x: what the layer takes, a tuple if that is several values.
            mask: which positions of it hold data, a tuple likewise; None if all do.

        Raises:
            UserError: the layer does not take it; the message begins with the name of the layer.
            ShapeError: likewise.
        """
        layer = self.layer
        with errors_named(self.name, self.after_name):
            inner = scope.inside(self.weights or self.name, mask)
            trace = inner.trace_layer(layer)
            y = (self.fused or layer)(inner, x)
            after = None if mask is None else inner.mask_after(layer)
            if trace is not None:
                trace.name, trace.takes = self.name, () if self.follows else self.takes
                trace.end(y, scope.inside(self.after_name).trace_layer(self.after) if self.after else None)
        return y, after


@contextlib.contextmanager
def errors_named(name: str, pooling: str = "") -> Iterator[None]:
    """Put the name of a layer, or of the pooling layer that is fused with it, in front of errors."""
    try:
        yield
    except PoolError as error:
        raise error_in(pooling, UserError(str(error))) from None
    except (UserError, ShapeError) as error:
        raise error_in(name, error) from None


def numbered(layers: Sequence[Any]) -> tuple[str, ...]:
    """Return a name for each layer: its kind, and its number among those of that kind."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        seen[layer.kind] += 1
        names.append(f"{layer.kind}_{seen[layer.kind]}")
    return tuple(names)


def with_fused(steps: Sequence[Step], apart: Collection[str] = ()) -> tuple[Step, ...]:
    """Return steps in which a layer that the one right before it can be fused with is a part of the step of that one.

    Args:
        steps: one for each layer.
        apart: the names of steps whose outputs are not those of the next step alone.
    """
    found: list[Step] = []
    for step in steps:
        before = found[-1] if found and step.follows else None
        fuse = getattr(before.layer, "followed_by", None) if before and before.name not in apart else None
        fused = fuse(step.layer) if fuse and before and before.after is None else None
        if before and fused:
            found[-1] = before._replace(after_name=step.name, after=step.layer, fused=fused)
        else:
            found.append(step)
    return tuple(found)


def only_input(x: Any) -> Value:
    """Return the inputs of a list of layers that takes one; UserError for a dict of several."""
    if not isinstance(x, dict):
        return x
    if len(x) > 1:
        names = ", ".join(x)
        raise UserError(
            f"the data has several inputs ({names}), but no layer says which it takes; give layers from = "
            f"{next(iter(x))!r}, and join them by a concatenate layer"
        )
    return next(iter(x.values()))

"""The steps of a list of layers: one layer each, or a convolution together with the pooling after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from dbp.autodiff import ShapeError, Value
from dbp.errors import UserError
from dbp.nn.layers.convolution import Conv1d, Conv2d, PoolError
from dbp.nn.layers.layer import Layer, error_in
from dbp.nn.layers.pooling import MaxPool1d, MaxPool2d
from dbp.nn.scope import Scope


class Step(NamedTuple):
    """A layer to apply, alone or with the max pooling after it, which is fused with a convolution.

    Args:
        name: of the layer.
        layer: the layer.
        takes: the names of what it takes; empty for the outputs of the step before.
        follows: whether `takes` is the outputs of the layer before alone.
        weights: the name of the layer whose weights it uses; empty for its own.
        pool_name: the name of the pooling layer.
        pool: the pooling layer; None without one that is fused.
    """

    name: str
    layer: Layer
    takes: tuple[str, ...] = ()
    follows: bool = True
    weights: str = ""
    pool_name: str = ""
    pool: MaxPool1d | MaxPool2d | None = None

    @property
    def output(self) -> str:
        """Return the name of the step's outputs, which is that of its last layer."""
        return self.pool_name or self.name

    def apply(self, scope: Scope, x: Value, mask: Any) -> tuple[Value, Any]:
        """Return the outputs of the layer, and their mask.

        Args:
            scope: of the list of layers.
            x: what the layer takes, a tuple if that is several values.
            mask: which places of it hold data, a tuple likewise; None if all do.

        Raises:
            UserError: the layer does not take it; the message begins with the name of the layer.
            ShapeError: likewise.
        """
        layer, pool = self.layer, self.pool
        try:
            inner = scope.inside(self.weights or self.name, mask)
            trace = inner.trace_layer(layer)
            y = layer.pooled(inner, x, pool.tiles) if pool and isinstance(layer, Conv1d | Conv2d) else layer(inner, x)
            after = None if mask is None else inner.mask_after(layer)
            if trace is not None:
                trace.name, trace.takes = self.name, () if self.follows else self.takes
                trace.end(y, scope.inside(self.pool_name).trace_layer(pool) if pool else None)
        except PoolError as error:
            raise error_in(self.pool_name, UserError(str(error))) from None
        except (UserError, ShapeError) as error:
            raise error_in(self.name, error) from None
        return y, after


def numbered(layers: Sequence[Any]) -> tuple[str, ...]:
    """Return a name for each layer: its kind, and its number among those of that kind."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        seen[layer.kind] += 1
        names.append(f"{layer.kind}_{seen[layer.kind]}")
    return tuple(names)


def with_pooling(steps: Sequence[Step], apart: Collection[str] = ()) -> tuple[Step, ...]:
    """Return steps in which a max pooling without overlap is a part of the step of the convolution right before it.

    Args:
        steps: one for each layer.
        apart: the names of steps whose outputs are not those of the next step alone.
    """
    fused: list[Step] = []
    for step in steps:
        pool, before = step.layer, fused[-1] if fused and step.follows else None
        fits = before and before.pool is None and before.name not in apart and _fuses(before.layer, pool)
        if before and fits and isinstance(pool, MaxPool1d | MaxPool2d) and pool.tiles:
            fused[-1] = before._replace(pool_name=step.name, pool=pool)
        else:
            fused.append(step)
    return tuple(fused)


def _fuses(layer: Layer, pool: Layer) -> bool:
    """Return True if the layers are a convolution and a max pooling of the same kind of inputs."""
    images = isinstance(layer, Conv2d) and isinstance(pool, MaxPool2d)
    return images or (isinstance(layer, Conv1d) and isinstance(pool, MaxPool1d))


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

"""A model as a single node of the graph, which is called again in the backward pass, so that less memory is held."""

from __future__ import annotations

from dataclasses import replace

from dbp.autodiff import Tensor, Value, array_of, recompute
from dbp.nn.call import Call, ParameterLookup
from dbp.nn.initializers import Shape
from dbp.nn.scope import Model, Scope
from dbp.types import Array


def recomputed(model: Model, scope: Scope, x: Value) -> Value:
    """Return the model's outputs as a single node of the graph; derivatives call the model again.

    The second call finds the same parameters and random numbers, and reports nothing.
    """
    call, path = scope._call, scope._path  # noqa: SLF001
    if call.record_neurons:
        return model(scope, x)
    found: dict[str, Value] = {}
    looked_up: list[Value] = []
    counts = call.generator_counts.copy()

    def look_up(name: str, shape: Shape, initializer: str) -> Array:
        found[name] = call.parameter(name, shape, initializer)
        return array_of(found[name])

    def look_up_rows(path: str, numbers: Array, mask: Array | None) -> Array | None:
        rows = None if call.rows is None else call.rows(path, numbers, mask)
        if rows is None:
            return None
        looked_up.append(rows)
        return array_of(rows)

    def again(x: Value, *values: Value) -> Value:
        given, rows = dict(zip(found, values, strict=False)), iter(values[len(found) :])
        parameter: ParameterLookup = lambda name, _shape, _initial: given[name]  # noqa: E731
        quiet = Call(parameter, call.running, call.random_key, call.example_weights, call.mask)
        quiet.generator_counts = counts.copy()
        quiet.rows = lambda path, _numbers, _mask: None if path in given else next(rows)
        quiet.masks, quiet.sum_over_shards = call.masks, call.sum_over_shards
        return model(Scope(quiet, path, scope.mask), x)

    first = Scope(replace(call, parameter=look_up, rows=look_up_rows), path, scope.mask)
    output = model(first, array_of(x))
    scope.pass_mask(first.mask_after(model))
    inputs = (x, *found.values(), *looked_up)
    return recompute(again).node(output, inputs) if any(type(i) is Tensor for i in inputs) else output

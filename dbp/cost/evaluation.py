"""The number of examples that are evaluated at a time, so that evaluation takes no more memory than training.

It depends on the model and the type of its numbers only, as the bits of a matrix product depend on its size. So the
sums over a data set have the same bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dbp.autodiff import MemoryCounter, Tensor, arrays_kept, graph_nodes, owner
from dbp.named_arrays import all_of, zeros_of
from dbp.nn import Model, RunningMoments, Scope, call_with
from dbp.types import Array, Arrays, Shapes

EVALUATION_BYTES, MAX_ROWS = 1 << 25, 512  # that are evaluated at a time
FEW, MORE = 2, 3  # numbers of examples of the two recorded passes, whose difference is the share of one example


def rows_at_a_time(example_bytes: int) -> int:
    """Return how many examples are evaluated at a time: at least one, however large it is."""
    return max(1, min(MAX_ROWS, EVALUATION_BYTES // max(1, example_bytes)))


def example_bytes(
    model: Model,
    parameters: Mapping[str, Array],
    running: Mapping[str, RunningMoments],
    input_shape: Shapes,
    dtype: np.dtype[Any],
    masks: Callable[[int], Arrays | None] = lambda _: None,
) -> int:
    """Return the most bytes of arrays that an evaluation holds at the same time for one example.

    They are counted in the graph that the model records: evaluation frees an array after the last node that takes it.

    Args:
        model: the model, which is called twice, on zeros.
        parameters: arrays of the shapes of its parameters, by path.
        running: its running moments, by path.
        input_shape: shape of one example, or shapes by name.
        dtype: type of the inputs.
        masks: returns a mask for a number of examples, or masks by name, if the inputs have one.
    """
    leaves = {name: Tensor(array) for name, array in parameters.items()}
    sizes: list[int] = []
    for examples in (FEW, MORE):
        inputs = zeros_of(input_shape, examples, dtype)
        with np.errstate(all="ignore"):  # only shapes matter
            outputs = model(Scope(call_with(leaves, running, mask=masks(examples))), inputs)
        arrays = all_of(inputs)
        known = MemoryCounter(*arrays, *parameters.values())
        sizes.append(sum(array.nbytes for array in arrays) + _most_bytes(graph_nodes(*all_of(outputs)), known))
    return sizes[1] - sizes[0]


def _most_bytes(nodes: Sequence[Tensor], known: MemoryCounter) -> int:
    """Return the most bytes that the nodes of a graph need at the same time, computed one after the other.

    Args:
        nodes: in the order of their creation.
        known: the arrays that are not counted; it gets those of the nodes.
    """
    spans: dict[int, list[int]] = {}  # of each array the bytes, and the numbers of the first and last node with it
    for number, node in enumerate(nodes):
        for array in (*arrays_kept(node), *(x.value for x in node.inputs if type(x) is Tensor)):
            spans.setdefault(id(owner(array)), [known.new_bytes(array), number, number])[-1] = number
    changes = np.zeros(len(nodes) + 1, np.int64)
    for size, first, last in spans.values():
        changes[first] += size
        changes[last + 1] -= size
    return int(np.cumsum(changes).max())

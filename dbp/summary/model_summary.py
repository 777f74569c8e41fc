"""A model layer by layer: shapes, parameters, work and memory, counted from the graph that it records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.config.settings import FULL_BATCH, Settings
from dbp.cost.evaluation import FEW, MORE, example_bytes, rows_at_a_time
from dbp.data import BLOCK_BYTES
from dbp.errors import UserError
from dbp.named_arrays import zeros_of
from dbp.nn import as_loss, as_model, initial_parameters
from dbp.parallel import parts
from dbp.run.frozen import freeze_moments, split_shapes
from dbp.run.sources import open_data
from dbp.summary.record import RecordedRow, record
from dbp.summary.work import Work
from dbp.text import amount, count_text, shape_text, shapes_text, size, table
from dbp.types import Shape, Shapes

LEGEND = "Columns are for one example. forward, backward: multiply-adds;\nkept: memory until backward is done."


class OptimizerInfo(Protocol):
    """The facts about an optimizer that a summary needs."""

    @property
    def kind(self) -> str:
        """Return its name."""
        ...

    @property
    def vectors(self) -> Sequence[str]:
        """Return the names of the vectors it keeps, each as long as the weights."""
        ...


class LinearCount(NamedTuple):
    """A count that is linear in the number of examples: fixed + per_example * examples."""

    fixed: int
    per_example: int

    @classmethod
    def between(cls, few: int, more: int) -> LinearCount:
        """Return the count that is `few` for FEW examples and `more` for MORE examples."""
        per_example = (more - few) // (MORE - FEW)
        return cls(few - FEW * per_example, per_example)

    def at(self, examples: int) -> int:
        """Return the count for a number of examples."""
        return self.fixed + self.per_example * examples


@dataclass(frozen=True)
class SummaryRow:
    """A layer of a model; its counts are without those of the layers inside it.

    Args:
        path: path of the layer's parameters.
        depth: number of layers around it.
        name: its name within the layer around it.
        settings: what it takes, if that is not the layer before, and its settings, as text.
        shape: shape of an example's outputs; None if unknown.
        parameters: number of its parameters.
        frozen: how many of them are not trained.
        forward: multiply-adds of the forward pass.
        backward: multiply-adds of the backward pass.
        kept: bytes that are kept from the forward pass for the backward pass.
        role: what it is: "layer", or "input" or "loss".
    """

    path: str
    depth: int
    name: str
    settings: str
    shape: Shape | None
    parameters: int
    frozen: int
    forward: LinearCount
    backward: LinearCount
    kept: LinearCount
    role: str = "layer"


@dataclass(frozen=True)
class Summary:
    """The layers of a model and the cost of a training step.

    Args:
        rows: the layers in the order of the forward pass.
        evaluated_bytes: memory that evaluation takes for one example, at most.
        batch_size: examples of a step, over all ranks.
        shards: number of parts of a mini-batch; None for one per rank.
        dtype: type of the parameters.
        optimizer: its kind; None if unknown.
        vectors: number of vectors that the optimizer keeps; None if unknown.
        over_shards: whether layers normalize over the whole mini-batch, for which a rank computes all of its shards at
            once.
        sparse: number of trained parameters of which a gradient has only rows that its examples look up.
    """

    rows: tuple[SummaryRow, ...]
    evaluated_bytes: int
    batch_size: int
    shards: int | None
    dtype: str
    optimizer: str | None
    vectors: int | None
    over_shards: bool = False
    sparse: int = 0

    @property
    def parameters(self) -> int:
        """Return the number of all parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        """Return the number of parameters that are trained."""
        return self.parameters - sum(row.frozen for row in self.rows)

    @property
    def parameter_bytes(self) -> int:
        """Return the memory of the parameters."""
        return self.parameters * np.dtype(self.dtype).itemsize

    @property
    def vector_bytes(self) -> int:
        """Return the memory of the trained parameters, and so of each vector as long as they are."""
        return self.trained * np.dtype(self.dtype).itemsize

    @property
    def shard_sizes(self) -> list[int]:
        """Return the number of examples of each shard of a mini-batch that has any."""
        count = self.shards or 1
        sizes = [len(parts(self.batch_size, count, number)) for number in range(count)]
        return [examples for examples in sizes if examples]

    def work(self, examples: int = 1) -> Work:
        """Return the multiply-adds of one graph with a number of examples."""
        return Work(
            sum(row.forward.at(examples) for row in self.rows), sum(row.backward.at(examples) for row in self.rows)
        )

    @property
    def step_work(self) -> Work:
        """Return the multiply-adds of a step over all shards, and so over all ranks."""
        works = [self.work(examples) for examples in self.shard_sizes]
        return Work(sum(w.forward for w in works), sum(w.backward for w in works))

    @property
    def activation_bytes(self) -> int:
        """Return the memory that forward passes keep for backward passes: the most that is kept at once on one rank.

        It is that of the largest shard, or of all shards if they are computed at once.
        """
        kept = self.shard_sizes if self.over_shards else [max(self.shard_sizes)]
        return sum(row.kept.at(examples) for row in self.rows for examples in kept)

    def __str__(self) -> str:
        return "\n".join([*self._layers(), "", *self._totals()])

    def _layers(self) -> list[str]:
        lines = [["layer", "settings", "output", "parameters", "forward", "backward", "kept"]]
        for row in self.rows:
            forward, backward, kept = row.forward.at(1), row.backward.at(1), row.kept.at(1)
            lines.append(
                [
                    "  " * row.depth + row.name,
                    row.settings,
                    "" if row.shape is None else shape_text(row.shape),
                    _parameters_text(row),
                    amount(forward) if forward else "",
                    amount(backward) if backward else "",
                    size(kept) if kept else "",
                ]
            )
        work, kept = self.work(), sum(row.kept.at(1) for row in self.rows)
        total = ["total", "", "", f"{self.parameters:,}", amount(work.forward), amount(work.backward), size(kept)]
        return table([*lines, total], left=(0, 1, 2), below=1)

    def _totals(self) -> list[str]:
        work, step = self.work(), self.step_work
        examples = count_text(self.batch_size, "example")
        rows = [
            ["an example", amount(sum(work)), f"multiply-adds, {amount(work.forward)} of them forward"],
            ["a step", amount(sum(step)), f"multiply-adds over all ranks, for {examples}"],
            ["parameters", size(self.parameter_bytes), f"{self.dtype}, one copy per node"],
        ]
        if self.trained < self.parameters:
            frozen = f"of {self.parameters:,} parameters; {self.parameters - self.trained:,} are frozen"
            rows.append(["trained", f"{self.trained:,}", frozen])
        each = "one per shard" if self._is_at_once else "one per rank"
        dense = size((self.trained - self.sparse) * np.dtype(self.dtype).itemsize)
        rows.append(["gradient", dense, f"{each}, and rows of sparse parameters" if self.sparse else each])
        if self.vectors is not None:
            count = "1 vector" if self.vectors == 1 else f"{self.vectors or 'no'} vectors"
            state = size(self.vectors * self.vector_bytes)
            rows.append(["optimizer", state, f"{self.optimizer}: {count}, one copy per node"])
        rows.append(["activations", size(self.activation_bytes), self._shard_text()])
        at_a_time = rows_at_a_time(self.evaluated_bytes)
        at_once = f"a rank at most, {count_text(at_a_time, 'example')} at a time"
        rows.append(["evaluation", size(at_a_time * self.evaluated_bytes), at_once])
        block = max(BLOCK_BYTES, sum(row.kept.per_example for row in self.rows if row.role == "input"))
        rows.append(["data check", size(block), "a rank at most, before the first step"])
        return [LEGEND, "", *table(rows, left=(0, 2))]

    @property
    def _is_at_once(self) -> bool:
        """Return True if a rank may have several shards at once."""
        return self.over_shards and (self.shards or 1) > 1

    def _shard_text(self) -> str:
        if self._is_at_once:
            return f'all {self.shards} shards at once, for statistics = "batch"; divided by ranks'
        largest = max(self.shard_sizes)
        shard = f"a rank, a shard of {count_text(largest, 'example')}"
        if self.shards is None:
            return f"{shard} (one shard per rank, here 1)"
        return f"{shard} at a time, of {count_text(self.shards, 'shard')}"


def summary(
    model: Any,
    input_shape: Shapes,
    loss: Any = None,
    optimizer: OptimizerInfo | None = None,
    batch_size: int = 1,
    shards: int | None = None,
    dtype: str = "float32",
    frozen: Sequence[str] = (),
) -> Summary:
    """Return the layers of a model and the cost of a training step.

    Args:
        model: a model, or a list of layers.
        input_shape: shape of one example, or shapes by name of several inputs.
        loss: a loss or its name, which gets a row of its own; for several outputs a mapping from their names.
        optimizer: the optimizer whose vectors are counted.
        batch_size: examples of a step, over all ranks.
        shards: number of parts of a mini-batch, 1 by default; a rank holds the graph of one part at a time,
            or those of all its parts if layers normalize over the whole mini-batch.
        dtype: type of the parameters.
        frozen: patterns of the names of parameters that are not trained.

    Raises:
        UserError: the model does not take inputs of this shape, or a pattern matches none of its parameters, or all.
    """
    model, loss = as_model(model), None if loss is None else as_loss(loss)
    try:
        initial = initial_parameters(model, zeros_of(input_shape, FEW, dtype), 0, dtype)
    except UserError as error:
        given = shapes_text(input_shape) if isinstance(input_shape, Mapping) else input_shape
        raise UserError(f"inputs of shape {given} do not fit the model: {error}") from None
    _, constant = split_shapes(frozen, initial)
    freeze_moments(initial.running, initial.shapes, constant)
    few, more = (record(model, initial, zeros_of(input_shape, n, dtype), loss, constant) for n in (FEW, MORE))
    rows = tuple(_row(a, b) for a, b in zip(few, more, strict=True))
    parameters = {name: initial.stand_in(name) for name in initial.shapes}
    evaluated = example_bytes(model, parameters, initial.running, input_shape, np.dtype(dtype))
    kind, vectors = (None, None) if optimizer is None else (optimizer.kind, len(optimizer.vectors))
    over_shards = any(moments.over_shards for moments in initial.running.values())
    sparse_names = [name for name, uses in initial.row_uses.items() if uses.sparse and name not in constant]
    sparse = sum(math.prod(initial.shapes[name]) for name in sparse_names)
    return Summary(rows, evaluated, batch_size, shards, dtype, kind, vectors, over_shards, sparse)


def _parameters_text(row: SummaryRow) -> str:
    """Return the number of a layer's parameters, and how many of them are frozen."""
    if not row.frozen:
        return f"{row.parameters:,}" if row.parameters else ""
    return f"{row.parameters:,} {'frozen' if row.frozen == row.parameters else f'({row.frozen:,} frozen)'}"


def _row(few: RecordedRow, more: RecordedRow) -> SummaryRow:
    """Return the row of a layer from two passes, over FEW and MORE examples."""
    return SummaryRow(
        few.path,
        few.depth,
        few.name,
        few.settings,
        few.shape,
        few.parameters,
        few.frozen,
        LinearCount.between(few.work.forward, more.work.forward),
        LinearCount.between(few.work.backward, more.work.backward),
        LinearCount.between(few.kept, more.kept),
        few.role,
    )


def summary_of(settings: Settings, input_shape: Shapes | None = None) -> Summary:
    """Return the summary of a run.

    Args:
        settings: settings of the run.
        input_shape: shape of one example, or shapes by name; by default that of the training data.
    """
    examples = 0
    if input_shape is None or settings.batch_size == FULL_BATCH:
        try:
            data = open_data(settings.data, settings.data.train)
        except UserError as error:
            number = ", and batch_size as a number" * (settings.batch_size == FULL_BATCH)
            remedy = f"without data, give the shape of an example, such as --input 28,28,1{number}"
            raise UserError(f"{error}; {remedy}") from None
        assert data is not None
        input_shape = input_shape or data.input_shape
        examples = len(data) - (settings.data.split.held_out(len(data)) if settings.data.split is not None else 0)
    return summary(
        settings.model,
        input_shape,
        settings.loss,
        settings.optimizer,
        settings.examples_per_step(examples),
        settings.shards,
        settings.dtype,
        settings.frozen,
    )

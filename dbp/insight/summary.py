"""A model layer by layer: shapes, parameters, work and memory, counted from the graph that it records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.config.settings import Settings
from dbp.errors import UserError
from dbp.insight.record import Place, record
from dbp.insight.work import Work
from dbp.nn import Loss, Model, as_loss, as_model, initial_parameters
from dbp.parallel import parts
from dbp.run.sources import open_data
from dbp.text import amount, shape_text, size, table

Shape = tuple[int, ...]
FEW, MORE = 2, 3  # examples of the two records, between which the growth by each further example is found


class Method(Protocol):
    """What a summary wants to know of an optimizer."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def vectors(self) -> Sequence[str]:
        """Those that it keeps beside the weights, each as long."""
        ...


class Growth(NamedTuple):
    """A number that grows by as much with each example."""

    fixed: int
    each: int

    @classmethod
    def between(cls, few: int, more: int) -> Growth:
        """From what it is for so many examples, and for more."""
        each = (more - few) // (MORE - FEW)
        return cls(few - FEW * each, each)

    def of(self, examples: int) -> int:
        """What it is for so many examples."""
        return self.fixed + self.each * examples


@dataclass(frozen=True)
class Row:
    """A layer; numbers are its own, without those of layers inside."""

    path: str
    depth: int
    name: str
    settings: str
    shape: Shape | None  # of an example's outputs, where they are known
    parameters: int
    forward: Growth  # multiply-adds
    backward: Growth  # multiply-adds
    kept: Growth  # bytes, from the forward pass to the backward pass


@dataclass(frozen=True)
class Summary:
    """The rows of a model, and what a step of training takes."""

    rows: tuple[Row, ...]
    batch_size: int
    shards: int | None
    dtype: str
    optimizer: str | None
    vectors: int | None  # that the optimizer keeps

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def parameter_bytes(self) -> int:
        """The memory of the parameters, and of every vector that is as long."""
        return self.parameters * np.dtype(self.dtype).itemsize

    @property
    def shard_sizes(self) -> list[int]:
        """The examples of each shard of a mini-batch that has some."""
        count = self.shards or 1
        sizes = [len(parts(self.batch_size, count, number)) for number in range(count)]
        return [examples for examples in sizes if examples]

    def work(self, examples: int = 1) -> Work:
        """Multiply-adds of one graph with so many examples."""
        return Work(
            sum(row.forward.of(examples) for row in self.rows), sum(row.backward.of(examples) for row in self.rows)
        )

    @property
    def step_work(self) -> Work:
        """Multiply-adds of a step, over all shards and so over all ranks."""
        works = [self.work(examples) for examples in self.shard_sizes]
        return Work(sum(w.forward for w in works), sum(w.backward for w in works))

    @property
    def activation_bytes(self) -> int:
        """The memory that a rank's forward pass keeps for the backward pass: that of the largest shard."""
        return sum(row.kept.of(max(self.shard_sizes)) for row in self.rows)

    def __str__(self) -> str:
        return "\n".join([*self._layers(), "", *self._totals()])

    def _layers(self) -> list[str]:
        head = ["layer", "settings", "output", "parameters", "forward", "backward", "kept"]
        lines = [head]
        for row in self.rows:
            numbers = (row.forward.of(1), row.backward.of(1))
            lines.append(
                [
                    "  " * row.depth + row.name,
                    row.settings,
                    "" if row.shape is None else shape_text(row.shape),
                    f"{row.parameters:,}" if row.parameters else "",
                    *(amount(n) if n else "" for n in numbers),
                    size(row.kept.of(1)) if row.kept.of(1) else "",
                ]
            )
        work, kept = self.work(), sum(row.kept.of(1) for row in self.rows)
        total = ["total", "", "", f"{self.parameters:,}", amount(work.forward), amount(work.backward), size(kept)]
        return table([*lines, total], left=(0, 1, 2), gives_way=1)

    def _totals(self) -> list[str]:
        work, step, vector = self.work(), self.step_work, size(self.parameter_bytes)
        rows = [
            ["an example", amount(sum(work)), f"multiply-adds, {amount(work.forward)} of them forward"],
            ["a step", amount(sum(step)), f"multiply-adds over all ranks, for {self.batch_size:,} examples"],
            ["parameters", vector, f"{self.dtype}, one copy a node"],
            ["gradient", vector, "one a rank"],
        ]
        if self.vectors is not None:
            count = "1 vector" if self.vectors == 1 else f"{self.vectors or 'no'} vectors"
            state = size(self.vectors * self.parameter_bytes)
            rows.append(["optimizer", state, f"{self.optimizer}: {count}, one copy a node"])
        rows.append(["activations", size(self.activation_bytes), f"a rank, {self._shard_text()}"])
        head = "Columns are for one example. forward, backward: multiply-adds; kept: memory until backward is done."
        return [head, "", *table(rows, left=(0, 2))]

    def _shard_text(self) -> str:
        largest = max(self.shard_sizes)
        shard = f"a shard of {largest:,} example{'s' * (largest != 1)}"
        if self.shards is None:
            return f"{shard} (as many shards as ranks, here 1)"
        return f"{shard} at a time, of {self.shards} shard{'s' * (self.shards != 1)}"


def summary(
    model: Any,
    input_shape: Shape,
    loss: Loss | str | None = None,
    optimizer: Method | None = None,
    batch_size: int = 1,
    shards: int | None = None,
    dtype: str = "float32",
) -> Summary:
    """What a model consists of, and what a step of training it takes.

    Args:
        model: a model, or a list of layers.
        input_shape: of one example.
        loss: which is then a row of its own.
        optimizer: whose vectors are then counted.
        batch_size: examples of a step, over all ranks.
        shards: into which they are cut, 1 if not told; a rank holds the graph of one at a time.
        dtype: of the parameters.

    Raises:
        UserError: the model does not take inputs of this shape.
    """
    model, loss = as_model(model), None if loss is None else as_loss(loss)
    few, more = (_places(model, input_shape, loss, dtype, examples) for examples in (FEW, MORE))
    rows = tuple(_row(a, b) for a, b in zip(few, more, strict=True))
    kind, vectors = (None, None) if optimizer is None else (optimizer.kind, len(optimizer.vectors))
    return Summary(rows, batch_size, shards, dtype, kind, vectors)


def _places(model: Model, input_shape: Shape, loss: Loss | None, dtype: str, examples: int) -> list[Place]:
    inputs = np.zeros((examples, *input_shape), dtype)
    try:
        initial = initial_parameters(model, inputs, 0, dtype)
    except UserError as error:
        raise UserError(f"inputs of shape {input_shape} do not fit the model: {error}") from None
    return record(model, initial, inputs, loss)


def _row(few: Place, more: Place) -> Row:
    return Row(
        few.path,
        few.depth,
        few.name,
        few.settings,
        few.shape,
        few.parameters,
        Growth.between(few.work.forward, more.work.forward),
        Growth.between(few.work.backward, more.work.backward),
        Growth.between(few.kept, more.kept),
    )


def summary_of(settings: Settings, input_shape: Shape | None = None) -> Summary:
    """The summary of a run.

    Args:
        settings: of the run.
        input_shape: of one example; by default that of the training data.
    """
    if input_shape is None:
        try:
            data = open_data(settings.data, settings.data.train)
        except UserError as error:
            raise UserError(f"{error}; without data, give the shape of an example, such as --input 28,28,1") from None
        assert data is not None
        input_shape = data.input_shape
    return summary(
        settings.model,
        input_shape,
        settings.loss,
        settings.optimizer,
        settings.batch_size,
        settings.shards,
        settings.dtype,
    )

"""The state of a run after a step, as one type: saving, resuming and recovery after dead ranks all use it.

Rank 0 holds it; the snapshots of other ranks are empty. Vectors of a checkpoint are read only when they are put into a
run, straight into the vectors of the run, so that a snapshot of an open file takes next to no memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dbp.checkpoint import BEST_GROUP, StoredCheckpoint, progress_of_best
from dbp.files import machine_memory
from dbp.nn import running_arrays
from dbp.optim import AVERAGE
from dbp.parallel import Arena, Layout, Residuals, agree, from_rank_0
from dbp.run.class_weights import class_weights_text
from dbp.run.run import WEIGHTS, Run
from dbp.run.stored_settings import stored_sources
from dbp.text import is_digits, shapes_text
from dbp.types import Array, Shape, Shapes

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

RESIDUALS = "error_feedback_"  # with the number of a node, the name of its vector among those of the optimizer
MOST_AXES = 32  # of the inputs of an example
RESIDUALS_WEIGHT = "error_feedback_weight"  # the weight of the mini-batch that it is of; absent without residuals


class StoredVector(NamedTuple):
    """A vector of parameters in an open checkpoint.

    Args:
        found: the checkpoint.
        group: the group that holds its parameters.
    """

    found: Opened
    group: str

    def read_into(self, vector: Array, layout: Layout) -> None:
        """Read it into an array; raise DataError if it is damaged."""
        for name, view in layout.views(vector, writable=True).items():
            self.found.read_into(f"{self.group}/{name}", view)


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after a step; empty on other ranks than 0.

    Args:
        vectors: weights and optimizer vectors, as Run.vectors names them.
        residuals: the error feedback of each node.
        frozen: the frozen parameters, as their own layout has them; None if there are none.
        running: running moments, by name.
        averaged: their averages, if the optimizer keeps an average of the weights.
        best: the weights of the best epoch; None if they are not kept, or are those of this step.
        best_moments: the running moments of the best epoch, by name.
        numbers: the optimizer's numbers, by name.
        history: one array per column.
        tables: arrays of metrics, by name.
        progress: counts, sums and what identifies the run, by name; see progress_of().
    """

    vectors: Mapping[str, Array | StoredVector] = field(default_factory=dict)
    residuals: Sequence[Array | StoredVector] = ()
    frozen: Array | StoredVector | None = None
    running: Mapping[str, Array] = field(default_factory=dict)
    averaged: Mapping[str, Array] = field(default_factory=dict)
    best: Array | StoredVector | None = None
    best_moments: Mapping[str, Array] = field(default_factory=dict)
    numbers: Mapping[str, Array] = field(default_factory=dict)
    history: Mapping[str, Array] = field(default_factory=dict)
    tables: Mapping[str, Array] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_held(self) -> bool:
        """Return True on the rank that holds the state."""
        return bool(self.vectors)

    # --- from and to a run ------------------------------------------------------------------------------

    @classmethod
    def of(cls, run: Run, vectors: Sequence[Array] | None = None, residuals: Residuals | None = None) -> Snapshot:
        """Return the state of a run now.

        Args:
            run: between two steps.
            vectors: copies of Run.vectors, in their order; by default they, and the other vectors, are copied here.
            residuals: a copy of the error feedback; by default there is none.
        """
        copies = [vector.copy() for vector in run.vectors.values()] if vectors is None else vectors
        best = run.best if run.has_best and run.progress.best_step < run.progress.step else None
        best_vector = None if best is None else best.vector.copy() if vectors is None else best.vector
        frozen = None if run.frozen is None else run.frozen.vector
        feedback, weight = (residuals.rows, residuals.example_weight) if residuals is not None else ((), 1.0)
        return cls(
            vectors=dict(zip(run.vectors, copies, strict=True)),
            residuals=list(feedback),
            frozen=frozen.copy() if frozen is not None and vectors is None else frozen,
            running={name: array.copy() for name, array in running_arrays(run.running).items()},
            averaged={name: array.copy() for name, array in running_arrays(run.averaged).items()},
            best=best_vector,
            best_moments={} if best is None else {n: array.copy() for n, array in running_arrays(best.moments).items()},
            numbers={name: array.copy() for name, array in run.state.numbers.items()},
            history=run.progress.history_arrays(),
            tables=run.progress.to_tables(),
            progress=progress_of(run) | ({RESIDUALS_WEIGHT: weight} if len(feedback) else {}),
        )

    def put_into(self, run: Run) -> None:
        """Write this state into a run; collective."""
        for name, vector in run.vectors.items():
            self._scatter(run, self.vectors.get(name, vector), vector)
        if (frozen := run.frozen) is not None:
            self._scatter(run, frozen.vector if self.frozen is None else self.frozen, frozen.vector, frozen.arena)
        count, weight = from_rank_0(run.comm, lambda: (len(self.residuals), self.progress.get(RESIDUALS_WEIGHT, 1.0)))
        run.objective.gradients.restore(weight, self._read_residuals(run, count))
        small = self.running, self.averaged, self.numbers, self.history, self.tables, self.progress
        running, averaged, numbers, history, tables, progress = from_rank_0(run.comm, lambda: small)
        for moments, found in ((run.running, running), (run.averaged, averaged)):
            for name, array in running_arrays(moments).items():
                array[...] = found[name]
        run.state.numbers.update(numbers)
        run.state.derived.clear()
        run.progress.restore(progress, history, tables)
        self._put_best(run)
        if run.progress.epoch < run.settings.epochs and not run.progress.outcome:
            run.progress.finished = False

    def _put_best(self, run: Run) -> None:
        """Write the weights of the best epoch into a run that keeps them; forget the epoch without them; collective."""
        if (best := run.best) is None:
            return
        is_stored, moments = from_rank_0(run.comm, lambda: (self.best is not None, self.best_moments))
        if is_stored and run.has_best:
            self._scatter(run, best.vector if self.best is None else self.best, best.vector)
            run.arena.fence(best.vector)
            best.put_moments(moments)
        elif run.progress.is_best:
            run.take_best()
        else:
            run.progress.forget_best()

    def _scatter(self, run: Run, vector: Array | StoredVector, target: Array, of_arena: Arena | None = None) -> None:
        """Write a vector to its owners; collective.

        Args:
            run: the run.
            vector: the source, on rank 0.
            target: a vector of the run.
            of_arena: that of the target; by default that of the weights.
        """
        arena = run.arena if of_arena is None else of_arena

        def load() -> Array:
            """Return the whole vector on rank 0; if it is stored and not divided, in its place."""
            if not isinstance(vector, StoredVector):
                return vector
            whole = np.empty_like(target) if arena.divided else target
            vector.read_into(whole, arena.layout)
            return whole

        arena.scatter_vector(agree(run.comm, load), target)

    def _read_residuals(self, run: Run, count: int) -> Iterator[Array]:
        """Yield the error feedback of one node after the other, on rank 0; empty arrays elsewhere."""
        layout = run.layout.dense
        room = np.empty(layout.size if count and self.is_held else 0, run.weights.dtype)

        def load(number: int) -> Array:
            vector = self.residuals[number] if self.is_held else room
            if isinstance(vector, StoredVector):
                vector.read_into(room, layout)
                return room
            return vector

        for number in range(count):
            yield agree(run.comm, load, number)

    # --- from and to a checkpoint -----------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls, found: Opened, layout: Layout, frozen: Collection[str] = ()) -> Snapshot:
        """Return the state in an open checkpoint, whose vectors are read only when they are put into a run.

        Args:
            found: the checkpoint.
            layout: of the trained parameters.
            frozen: the names of the frozen ones.
        """

        def group(name: str) -> dict[str, str]:
            """Return the names of a group's entries by what they are called within it."""
            return {entry.removeprefix(f"{name}/"): entry for entry in found.entries if entry.startswith(f"{name}/")}

        names = dict.fromkeys(name.partition("/")[0] for name in group("optimizer"))
        vectors = [WEIGHTS, *(name for name in names if not name.startswith(RESIDUALS))]

        def moments(of_group: str) -> dict[str, Array]:
            others = {name: e for name, e in group(of_group).items() if name not in layout.shapes}
            return {name: found.array(e) for name, e in others.items() if name not in frozen}

        return cls(
            vectors={name: StoredVector(found, group_of(name)) for name in vectors},
            residuals=[StoredVector(found, group_of(name)) for name in residual_names(found.entries, layout)],
            frozen=StoredVector(found, group_of(WEIGHTS)) if frozen else None,
            running=moments("model"),
            averaged=moments(group_of(AVERAGE)),
            best=StoredVector(found, BEST_GROUP) if group(BEST_GROUP) else None,
            best_moments=moments(BEST_GROUP),
            numbers={name: found.array(entry) for name, entry in group("method").items()},
            history={name: found.array(entry) for name, entry in group("history").items()},
            tables={name: found.array(entry) for name, entry in group("tables").items()},
            progress=found.progress,
        )

    def to_checkpoint(
        self,
        layout: Layout,
        provenance: Mapping[str, Any],
        config: str,
        meaning: str = "{}",
        frozen: Mapping[str, Array] | None = None,
    ) -> StoredCheckpoint:
        """Return what a checkpoint stores of this state, whose vectors must be in memory.

        Args:
            layout: where the parameters lie in the vectors.
            provenance: what the run was made with.
            config: the settings, in TOML.
            meaning: what the numbers of the training data mean, in JSON.
            frozen: the frozen parameters by name, if there are any.
        """
        views = {name: layout.views(_in_memory(vector)) for name, vector in self.vectors.items()}
        if AVERAGE in views:
            views[AVERAGE] |= self.averaged
        for node, vector in enumerate(self.residuals):
            views[f"{RESIDUALS}{node}"] = layout.dense.views(_in_memory(vector))
        best = {} if self.best is None else layout.views(_in_memory(self.best))
        return StoredCheckpoint(
            model={**(frozen or {}), **views.pop(WEIGHTS), **self.running},
            best={**best, **self.best_moments},
            optimizer=views,
            method=self.numbers,
            history=self.history,
            tables=self.tables,
            progress=self.progress,
            provenance=provenance,
            config=config,
            meaning=meaning,
        )


def progress_of(run: Run) -> dict[str, Any]:
    """Return counts and sums of a run by name, what identifies it, and facts of its data that a model is used with."""
    shape = run.sources.train.input_shape
    facts: dict[str, Any] = {"shards": run.shards.count, "seed": run.settings.seed, "order": run.sampler.description}
    facts |= class_weights_text(run.loss) | stored_sources(run.settings)
    facts |= {f"data_{purpose}": digest for purpose, digest in run.digests.items()}
    facts |= {"examples": len(run.sources.train)} | ({} if run.has_masks else {"input_shape": shapes_text(shape)})
    return run.progress.to_attributes() | facts


def progress_of_result(run: Run) -> dict[str, Any]:
    """Return the same as it stands for the weights of the result: those of the best epoch, if the run keeps them."""
    progress = progress_of(run)
    return progress_of_best(progress) if run.has_best and run.progress.best_step < run.progress.step else progress


def stored_input_shape(progress: Mapping[str, Any]) -> Shapes | None:
    """Return the shape of the inputs of a training example, or shapes by name of several inputs.

    None if a checkpoint does not have it, or no run wrote it.

    Args:
        progress: that of a checkpoint, as progress_of() returns it.
    """
    text = str(progress.get("input_shape", ""))
    if "=" not in text:
        return _shape_in(text)
    pairs = [pair.rpartition("=") for pair in text.split(", ")]
    shapes = {name: _shape_in(shape) for name, _, shape in pairs}
    return None if "" in shapes or None in shapes.values() else shapes


def _shape_in(text: str) -> Shape | None:
    """Return the shape that a text such as 28x28x1 describes; None for another text, or one larger than memory."""
    words = text.split("x")
    if not all(map(is_digits, words)) or len(words) > MOST_AXES:
        return None
    shape = tuple(map(int, words))
    return shape if 0 < math.prod(shape) <= machine_memory() else None


def _in_memory(vector: Array | StoredVector) -> Array:
    assert isinstance(vector, np.ndarray)
    return vector


def group_of(vector: str) -> str:
    """Return the group of a checkpoint that holds the parameters of a vector."""
    return "model" if vector == WEIGHTS else f"optimizer/{vector}"


def moments_of(run: Run) -> dict[str, dict[str, Array]]:
    """Return the running moments of a run and their averages, by the group of a checkpoint that holds them."""
    return {group_of(WEIGHTS): running_arrays(run.running), group_of(AVERAGE): running_arrays(run.averaged)}


def moments_for_inference(run: Run) -> dict[str, Array]:
    """Return the running moments of a run to evaluate and predict with, by name."""
    return running_arrays(run.inference_moments)


def residual_names(entries: Mapping[str, Any], layout: Layout) -> list[str]:
    """Return the names of the vectors of error feedback that a checkpoint should have, by the number of its entries."""
    count = sum(entry.startswith(f"optimizer/{RESIDUALS}") for entry in entries)
    return [f"{RESIDUALS}{node}" for node in range(count // max(1, len(layout.dense.shapes)))]

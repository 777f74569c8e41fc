"""A run in progress on this rank: data, model, weights, optimizer state, and its folder of files."""

from __future__ import annotations

import platform
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

import dbp
from dbp import config
from dbp.autodiff import Array
from dbp.checkpoint import Checkpoint, CheckpointFolder, find
from dbp.data import Batches, Dataset, Order
from dbp.errors import DivergedError, UserError
from dbp.loader import Loader
from dbp.nn import check_weights, initial_parameters, named_arrays, take_over
from dbp.objective import Objective
from dbp.optim import State
from dbp.parallel import (
    HOW_TO_GET_MPI,
    Arena,
    Communicator,
    Layout,
    Node,
    Shards,
    agree,
    complaints,
    difference,
    from_rank_0,
    must_be_alike,
    must_fit,
    processor,
    stages,
    threads_for,
)
from dbp.progress import Progress
from dbp.settings import AUTO, Settings
from dbp.sources import check_together, open_sources

Say = Callable[[str], None]
Found = tuple[Path | None, Checkpoint | None, list[str]]  # as CheckpointFolder.newest() gives it
NOTHING: Found = (None, None, [])

# What may differ between a checkpoint and the settings that go on from it.
FREE = ("epochs", "out", "checkpoint", "watch", "divide_state")


def _folder(settings: Settings) -> CheckpointFolder | None:
    """Where the run's checkpoints are kept, if they are."""
    if settings.out is None:
        return None
    return CheckpointFolder(Path(settings.out) / "checkpoints", settings.checkpoint.keep)


def find_checkpoint(settings: Settings) -> Found:
    """The newest whole checkpoint, if there are any; UserError if there are, but none is whole."""
    folder = _folder(settings)
    path, stored, passed_over = NOTHING if folder is None else folder.newest()
    if stored is None and passed_over:
        raise UserError(
            f"{settings.out} holds checkpoints, but none of them is whole; start anew with --fresh "
            f"({'; '.join(passed_over)})"
        )
    return path, stored, passed_over


def with_threads(settings: Settings, stored: Checkpoint | None, nodes: Sequence[Node]) -> Settings:
    """The settings with a number of threads: where it is left open that of the checkpoint, else one a core."""
    if settings.threads != AUTO:
        return settings
    return replace(settings, threads=tomllib.loads(stored.config)["threads"] if stored else threads_for(nodes))


class Run:
    """All that a rank holds of a run.

    Args:
        settings: what to do.
        comm: the ranks.
        blas: the BLAS kernel, which the promise of equal bits depends on.
        stored: what its folder holds.
    """

    def __init__(self, settings: Settings, comm: Communicator, blas: str, stored: Found = NOTHING):
        self.settings, self.comm = settings, comm
        self._blas, self._stored = blas, stored
        self.folder = _folder(settings)
        must_be_alike(comm, _versions(), "start the same installation of dbp and Python on all nodes")
        must_be_alike(comm, _flat(config.table_from(settings)), "give all ranks the same settings")
        self.sources = agree(comm, open_sources, settings)
        must_be_alike(comm, agree(comm, self.sources.samples), "give all ranks the same data, whole")
        stored_shards = stored[1].progress["shards"] if stored[1] else None
        self.shards = Shards(settings.shards or int(stored_shards or comm.size), comm.rank, comm.size)
        parameters = agree(comm, self._build_model, self._given_weights())
        must_be_alike(comm, self._shapes(parameters), "the model must not depend on the rank")
        self.digests = {n: check_together(comm, data, self._check_targets) for n, data in self.sources.files.items()}
        self.progress = Progress(settings.loss.metrics)
        self.length = 0.0  # of the last step: its learning rate, or what a line search found
        self.batches = Batches(len(self.sources.train), settings.batch_size)
        self._place(parameters)
        self.objective.whole = self.batches.steps == 1

    def _build_model(self, given: Mapping[str, Array] | None) -> dict[str, Array]:
        settings, dtype = self.settings, self.settings.numpy_dtype
        example = np.zeros((2, *self.sources.train.input_shape), dtype)
        initial = initial_parameters(settings.model, example, settings.seed, dtype)
        parameters, self._output_shape, self.running = initial
        self.layout = Layout.of(parameters)
        if given is not None:
            take_over(initial, given, f"weights {settings.weights}" if isinstance(settings.weights, str) else "weights")
        settings.optimizer.check(self.layout.shapes)
        return parameters

    def _given_weights(self) -> Mapping[str, Array] | None:
        """What the settings say to begin with; not read where a checkpoint says more."""
        weights = self.settings.weights
        if isinstance(weights, str):
            return None if self._stored[1] else from_rank_0(self.comm, lambda: find(Path(weights))[1].trained)
        return weights

    def _shapes(self, parameters: Mapping[str, Array]) -> dict[str, object]:
        shapes: dict[str, object] = {f"parameter {name}": array.shape for name, array in parameters.items()}
        return shapes | {f"running moments {name}": place.width for name, place in self.running.items()}

    def _place(self, parameters: Mapping[str, Array]) -> None:
        """Give weights, optimizer and objective their memory, which the ranks of a node may share; collective."""
        settings, dtype = self.settings, self.settings.numpy_dtype
        method, divide = settings.optimizer, settings.divide_state
        vector, state = self.layout.size * dtype.itemsize, len(method.vectors) + len(method.scratch)
        held = -(-state // self.comm.nodes.count) if divide else state
        must_fit(self.comm, once=(2 + held) * vector, each=vector)  # weights, the summed gradient; each its own
        self.arena = Arena(self.comm, self.layout.size, dtype, 1 + state, divide=divide)
        self.weights = self.arena.vector()
        self.arena.put(self.weights, self.layout, parameters)
        self.state = State.of(method, self.arena.vectors)
        if (trained := self.state.trained(self.weights)) is not self.weights:
            self.arena.put(trained, self.layout, parameters)
        self.objective = Objective(
            settings.model,
            settings.loss,
            self.layout,
            self.comm,
            self.shards,
            dtype,
            self.running,
            settings.seed,
            self.arena,
            settings.messages,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Free what ranks share, which takes all of them: not where one leaves alone, as that ends the job."""
        self.state.close()
        if error is None or (isinstance(error, UserError) and error.on_all_ranks):
            self.objective.free()

    def _check_targets(self, targets: Array, weights: Array | None, first: int) -> None:
        loss = self.settings.loss
        loss.check(targets, self._output_shape, first)
        check_weights(weights, loss.places(self._output_shape))

    def loader(self, data: Dataset) -> Loader:
        """What reads this rank's shards of a data set."""
        return Loader(data, self.settings.loss, self._output_shape, self.settings.numpy_dtype, self.shards)

    def order(self, epoch: int) -> Order:
        """In which an epoch takes the examples; if it takes all at once, always the same."""
        fixed = 0 if self.objective.whole else epoch
        return Order(len(self.sources.train), self.settings.seed, "order of examples", fixed)

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether all mini-batches of the epoch are done."""
        return self.progress.step_in_epoch >= self.batches.steps

    def introduce(self, say: Say, nodes: Sequence[Node]) -> None:
        """Say what will be done, on what, and what is wrong with where the ranks run."""
        comm, settings = self.comm, self.settings
        ranks = "1 rank" if comm.size == 1 else f"{comm.size} ranks"
        ranks += f" on {comm.nodes.count} nodes" * (comm.nodes.count > 1)
        say(
            f"dbp {dbp.__version__}: {ranks} ({comm.description}), {self.shards.count} shards, "
            f"{settings.threads} BLAS thread{'s' * (settings.thread_count > 1)} a rank ({self._blas})"
        )
        if "no MPI library" in comm.description:
            say(f"no MPI library was found, so this runs as one rank; {HOW_TO_GET_MPI}")
        say(f"{self.layout.size:,} parameters ({settings.dtype}); examples: {self.sources.describe()}")
        if self.arena.lacks_memory:
            say(f"warning: every rank keeps weights and optimizer state of its own, as {self.comm.refused}")
        if idle := self.shards.idle_ranks:
            names = f"rank {idle[0]} has" if len(idle) == 1 else f"ranks {', '.join(map(str, idle))} have"
            say(
                f"warning: {names} nothing to do, as there are only {self.shards.count} shards for {comm.size} "
                "ranks; start with fewer ranks, or anew with more shards"
            )
        for complaint in complaints(nodes, settings.thread_count):
            say(f"warning: {complaint}")

    # --- checkpoints --------------------------------------------------------------------------------

    def start(self, fresh: bool, overwrite: bool, say: Say) -> None:
        """Go on from the newest checkpoint that is whole, or start anew."""
        path, stored, passed_over = self._stored
        self._stored = NOTHING  # not to be held in memory while training
        for reason in passed_over:
            say(f"warning: passed over: {reason}")
        if fresh:
            from_rank_0(self.comm, self._start_afresh, overwrite, say)
        elif stored is not None:
            assert path is not None
            agree(self.comm, self._restore, path, stored)
            if self.progress.finished:
                outcome, more = self.progress.outcome, "raise epochs to go on from it, or "
                say(f"{path} is finished: {outcome or more + 'start anew with --fresh'}")
            else:
                say(f"resumed from {path} at epoch {self.progress.epoch + 1}, step {self.progress.step}")
                if self.settings.optimizer.forgets:
                    say(f"note: {self.settings.optimizer.forgets}")
            if (was := stored.provenance.get("blas")) != self._blas:
                say(f"warning: the checkpoint was made with {was}: from here on, bits may differ from its run's")
        self.arena.settle(self.weights)
        from_rank_0(self.comm, self._prepare_folder)

    def _start_afresh(self, overwrite: bool, say: Say) -> None:
        if self.folder is None:
            return
        if overwrite:
            say(f"deleted {self.folder.delete()} checkpoints of an earlier run in {self.folder.path}")
        elif (aside := self.folder.set_aside()) is not None:
            say(f"the checkpoints of an earlier run were moved to {aside}")

    def _prepare_folder(self) -> None:
        if self.folder is not None:
            self.folder.prepare()
            text = config.to_toml(config.table_from(self.settings))
            self.folder.commit_beside("config.toml", text)

    def _restore(self, path: Path, stored: Checkpoint) -> None:
        self._compare(path, stored)
        self.arena.put(self.weights, self.layout, stored.model)
        for name, array in named_arrays(self.running).items():
            array[:] = stored.model[name]
        for name, vector in self.state.vectors.items():
            self.arena.put(vector, self.layout, stored.optimizer[name])
        self.state.numbers.update(stored.method)
        self.progress.restore(stored.progress, stored.history)
        if self.progress.epoch < self.settings.epochs and not self.progress.outcome:
            self.progress.finished = False

    def _compare(self, path: Path, stored: Checkpoint) -> None:
        """UserError if the checkpoint is of another run than the settings describe."""
        now = config.table_from(self.settings) | {"shards": self.shards.count}
        then = tomllib.loads(stored.config) | {"shards": stored.progress["shards"]}
        wrong = config.differences(_without_files(then), _without_files(now), FREE)
        shapes = {name: array.shape for name, array in stored.model.items()}
        if shapes != (own := {name: array.shape for name, array in self._model_arrays().items()}):
            wrong.append(f"parameters: {shapes} in the checkpoint, {own} now")
        for name in ("train", "validation"):
            before, after = stored.progress.get(f"data_{name}"), self.digests.get(name)
            if before != after:
                wrong.append(f"{name} data: other examples now than in the checkpoint")
        if wrong:
            raise UserError(
                f"checkpoint {path} is of another run ({'; '.join(wrong)}); start anew with --fresh, "
                "or choose another folder with --out"
            )

    def compare_nodes(self) -> None:
        """DivergedError if nodes do not have the same weights; collective."""
        self.arena.fence(self.weights)
        wrong = difference(self.arena, self.weights, self.layout)
        if wrong is not None:
            raise DivergedError(
                f"after step {self.progress.step} the weights of some nodes differ from those of the others: {wrong}; "
                "no checkpoint was written from them; look at the memory and the processors there, and start again "
                "to go on from the last checkpoint"
            )

    def save(self) -> None:
        """Commit a checkpoint and the history; rank 0 writes, and all know whether it went well."""
        if self.settings.watch.compare_every_steps:
            self.compare_nodes()
        else:
            self.arena.fence(self.weights)
        before = self.comm.stages.enter(stages.CHECKPOINT)
        if self.folder is not None:
            state = {name: self.arena.collected(vector) for name, vector in self.state.vectors.items()}
            from_rank_0(self.comm, self._save, state)
        self.comm.stages.enter(before)

    def _save(self, optimizer_state: Mapping[str, Array]) -> None:
        assert self.folder is not None
        self.folder.save(self.checkpoint(optimizer_state), self.progress.step)
        columns = self.progress.history
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(f"{x:.10g}" for x in row) for row in rows)]
        self.folder.commit_beside("history.csv", "\n".join(lines) + "\n")

    def write_beside(self, name: str, text: str) -> None:
        """Write a file of the run's folder, if there is one; collective."""
        if self.folder is not None:
            from_rank_0(self.comm, self.folder.commit_beside, name, text)

    def _model_arrays(self) -> dict[str, Array]:
        """Parameters and running moments by name."""
        return self.layout.views(self.weights) | named_arrays(self.running)

    def checkpoint(self, optimizer_state: Mapping[str, Array]) -> Checkpoint:
        """The state of the run."""
        data = {f"data_{name}": digest for name, digest in self.digests.items()}
        return Checkpoint(
            model=self._model_arrays(),
            optimizer={name: self.layout.views(vector) for name, vector in optimizer_state.items()},
            method=self.state.numbers,
            history=self.progress.history_arrays(),
            progress=self.progress.to_attributes() | {"shards": self.shards.count, "seed": self.settings.seed} | data,
            provenance={
                **_versions(),
                "blas": self._blas,
                "mpi": self.comm.description,
                "ranks": self.comm.size,
                "processor": processor(),
                "host": socket.gethostname(),
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            config=config.to_toml(config.table_from(self.settings)),
        )

    def final_weights(self) -> dict[str, Array]:
        """The weights to use and running moments by name, in memory that outlives the run; collective."""
        trained = self.state.trained(self.weights)
        self.arena.fence(trained)
        return self.layout.views(trained.copy()) | named_arrays(self.running)

    # --- evaluation ---------------------------------------------------------------------------------

    def evaluate(self, data: Dataset | None) -> dict[str, float]:
        """Cost and metrics on some data, exact over all ranks; empty without data."""
        if data is None:
            return {}
        totals = self.objective.evaluate(self.state.trained(self.weights), self.loader(data).chunks)
        return totals.means(self.settings.loss.metrics)


def _versions() -> dict[str, str]:
    """What may decide the result besides settings and data."""
    return {"dbp": dbp.__version__, "python": platform.python_version(), "numpy": np.__version__}


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, object]:
    """A config by the full names of its keys."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return flat


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the names of its data, which is compared by content; a part of it, a number, stays."""
    purposes = ("train", "validation", "test")
    data = {k: v for k, v in table["data"].items() if not (k in purposes and isinstance(v, str))}
    return {**table, "data": data}

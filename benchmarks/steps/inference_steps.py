"""dbp's side: a trained model evaluates or predicts all examples; to be started on any number of ranks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cases import RANKS, Case
from dbp_layers import layers_of
from dbp_steps import data_of
from dbp_versions import versions_of
from measure import Report, Step
from passes import EVALUATE, FILE, Pass

import dbp
from dbp.blas import blas_threads
from dbp.parallel import Communicator, world

TRAINED = 16  # examples, in one step


def trained_model(case: Case) -> dbp.TrainedModel:
    """Return the case's network after one step."""
    return dbp.fit(
        model=layers_of(case.network),
        loss="mean_squared_error" if case.autoencoder else "cross_entropy",
        data=data_of(case, TRAINED),
        optimizer=dbp.optim.SGD(1e-3),
        epochs=1,
        batch_size=TRAINED,
        shards=RANKS,
        quiet=True,
    )


def written(folder: Path, comm: Communicator, data: tuple[np.ndarray, np.ndarray]) -> Path:
    """Write examples to a file, on rank 0, and return it; collective."""
    path = folder / "data.h5"
    if comm.rank == 0:
        with h5py.File(path, "w") as file:
            file["inputs"], file["targets"] = data
    comm.barrier()
    return path


def step_of(one: Pass, model: dbp.TrainedModel, data: tuple[np.ndarray, np.ndarray], path: Path) -> Step:
    """Return a function that makes the pass."""
    given: Any = path if one.source == FILE else data
    if one.work == EVALUATE:
        return lambda: model.evaluate(given)
    return lambda: model.predict(path if one.source == FILE else data[0])


def main() -> None:
    """Measure each pass in turn."""
    report, comm = Report(__doc__, Pass.of), world()
    variant = "dbp" if comm.size > 1 else "one rank"
    with blas_threads(1):
        report.versions = versions_of(comm)
    models: dict[str, dbp.TrainedModel] = {}
    for name, one in report.cases.items():
        if one.name not in models:
            models[one.name] = trained_model(one.case)
        data = data_of(one.case, one.examples)
        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(comm.broadcast(folder)), comm, data)
            report.add(variant, name, step_of(one, models[one.name], data, path), comm)
            comm.barrier()
    report.write(comm)


if __name__ == "__main__":
    main()

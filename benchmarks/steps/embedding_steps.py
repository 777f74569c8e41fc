"""dbp's side: a step of dbp.fit with an embedding, on one mini-batch in memory; to be started on two ranks."""

from __future__ import annotations

import numpy as np
from dbp_versions import versions_of
from embedding_case import CLASSES, EMBEDDINGS, EXAMPLES, UNITS, WORDS, EmbeddingCase
from measure import Report

from dbp import nn, optim
from dbp.blas import blas_threads
from dbp.config.settings import Settings
from dbp.parallel import world
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run


def settings_of(case: EmbeddingCase) -> Settings:
    """Return the settings of a run whose data is one mini-batch."""
    rng = np.random.default_rng(0)
    words, targets = rng.integers(case.entries, size=(EXAMPLES, WORDS)), rng.integers(CLASSES, size=EXAMPLES)
    return Settings.of(
        model=[nn.Embedding(case.entries, UNITS, sparse=case.sparse), nn.Flatten(), nn.Dense(CLASSES)],
        loss="cross_entropy",
        data=(words, targets),
        optimizer=optim.Adam(1e-3),
        epochs=1,
        batch_size=EXAMPLES,
    )


def main() -> None:
    """Measure each case in turn."""
    report, comm = Report(__doc__, EMBEDDINGS.__getitem__), world()
    with blas_threads(1):
        report.versions = versions_of(comm)
        for name, case in report.cases.items():
            with start_run(settings_of(case), comm, Start(fresh=True, quiet=True)) as (run, _, _):
                batch = run.next_batch()
                report.add("dbp", name, lambda: loop.record_step(run, loop.step(run, batch, 1_000_000)), comm)  # noqa: B023
    report.write(comm)


if __name__ == "__main__":
    main()

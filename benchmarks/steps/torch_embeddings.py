"""PyTorch's side: steps with an embedding in one process with two threads."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from cases import RANKS
from embedding_case import CLASSES, EMBEDDINGS, EXAMPLES, UNITS, WORDS, EmbeddingCase
from measure import Alone, Report, Step
from torch import nn
from torch_steps import versions


def step_of(case: EmbeddingCase) -> Step:
    """Return a training step on one mini-batch."""
    torch.manual_seed(0)
    words = torch.randint(case.entries, (EXAMPLES, WORDS))
    targets = torch.randint(CLASSES, (EXAMPLES,))
    table, dense = nn.Embedding(case.entries, UNITS, sparse=case.sparse), nn.Linear(WORDS * UNITS, CLASSES)
    of_table = torch.optim.SparseAdam if case.sparse else torch.optim.Adam
    fused = {} if case.sparse else {"fused": True}
    optimizers = [of_table(table.parameters(), lr=1e-3, **fused)]
    optimizers.append(torch.optim.Adam(dense.parameters(), lr=1e-3, fused=True))

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(dense(table(words).flatten(1)), targets).backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def main() -> None:
    """Measure each case in turn."""
    report = Report(__doc__, EMBEDDINGS.__getitem__)
    torch.set_num_threads(RANKS)
    report.versions = versions()
    for name, case in report.cases.items():
        report.add("PyTorch", name, step_of(case), Alone())
    report.write(Alone())


if __name__ == "__main__":
    main()

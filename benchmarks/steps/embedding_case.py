"""The embeddings that are timed."""

from __future__ import annotations

from typing import NamedTuple

EXAMPLES, WORDS, UNITS, CLASSES = 64, 10, 32, 10


class EmbeddingCase(NamedTuple):
    """An embedding and how it is trained.

    Args:
        entries: of the vocabulary.
        sparse: whether a step changes only the entries of its mini-batch.
        steps: in a repetition.
    """

    entries: int
    sparse: bool
    steps: int


EMBEDDINGS = {
    "3000-dense": EmbeddingCase(3_000, sparse=False, steps=50),
    "3000-sparse": EmbeddingCase(3_000, sparse=True, steps=50),
    "300000-dense": EmbeddingCase(300_000, sparse=False, steps=5),
    "300000-sparse": EmbeddingCase(300_000, sparse=True, steps=50),
}

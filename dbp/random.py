"""Random numbers that depend on their purpose, never on the rank that draws them.

Every stream is a counter-based generator (Philox) keyed by the run's seed and a purpose, at a position
given by up to three counters such as epoch, step, shard or example.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator of a purpose ("initial weights") at a position of at most three counters."""
    purpose_key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    # Philox counts up its lowest word while it draws, so the position goes into the three above it.
    position = [0, *counters, *[0] * (3 - len(counters))]
    return np.random.Generator(np.random.Philox(key=[seed, purpose_key], counter=position))

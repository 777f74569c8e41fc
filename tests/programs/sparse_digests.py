"""Print digests of the weights after a few steps with embeddings, of several optimizers.

One is sparse, and one is not, but its gradient is computed by rows. sparse_digests.py [divided] [flat] divides the
optimizer's state among the nodes, and computes the gradient of the second as an array.

Started by tests/training/test_fit_sparse_embeddings.py.
"""

import sys

import numpy as np

import dbp
from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.optim import SGD, Adagrad, Adam, Lion
from dbp.parallel import world
from dbp.run import row_tables

METHODS = [
    Adam(1e-2, clip_norm=0.5, weight_decay=0.01),
    SGD(0.1, 0.9),
    Adagrad(0.1, layer_rates={"words/*": 0.5}),
    Lion(),
]
WORDS, PAIRS = nn.Embedding(3000, 6, sparse=True), nn.Embedding(900, 5)


def model(scope, x):
    """Return the outputs of a bag of words and of pairs of words, one table used twice."""
    words = WORDS(scope.inside("words"), x) * WORDS(scope.inside("words"), x[:, ::-1])
    pairs = nn.Recompute([PAIRS, nn.Dense(4, "tanh")])(scope.inside("pairs"), x[:, ::2] // 4)
    first = nn.BatchNorm(statistics="batch")(scope.inside("norm"), words.mean(axis=1))
    return nn.Dense(3)(scope.inside("out"), first) + nn.Dense(3)(scope.inside("other"), pairs.mean(axis=1))


if "flat" not in sys.argv:
    row_tables.LEAST_ELEMENTS = 1
rng = np.random.default_rng(0)
x = np.minimum(rng.zipf(1.3, (90, 12)), 2999).astype(np.int64)
y = rng.integers(0, 3, 90)
for method in METHODS:
    result = dbp.fit(
        model=model,
        loss="cross_entropy",
        data=dbp.Data((x, y)),
        optimizer=method,
        epochs=2,
        batch_size=22,
        shards=4,
        divide_state="divided" in sys.argv,
        quiet=True,
    )
    if world().rank == 0:
        costs = "".join(f" {cost.hex()}" for cost in result.history["cost"])
        print(method.kind, digest_arrays(result.weights), costs)

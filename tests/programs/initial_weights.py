"""Initial weights of a run, drawn or given, against weights that one process draws whole; on every rank.

    initial_weights.py FOLDER [private] [divide]

A folder for checkpoints; whether ranks have no memory in common; whether the optimizer's state is divided among nodes.

Started by tests/test_ranks.py.
"""

import sys

import numpy as np

from dbp import fit, nn
from dbp.checkpoint import digest_arrays
from dbp.errors import UserError
from dbp.optim import Adam
from dbp.parallel import world
from dbp.run.given_weights import GivenWeights

folder, *words = sys.argv[1:]
comm = world()
if "private" in words:
    comm.node.allocate = lambda _length: None
if comm.rank > 0:
    GivenWeights._read = None  # only rank 0 reads files
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((20, 37)).astype(np.float32), rng.integers(0, 4, 20)
LAYERS = (
    nn.Dense(301, "relu"),
    nn.Dense(70, "tanh", initializer="orthogonal"),
    nn.BatchNorm(),
    nn.Dense(30, initializer="sparse"),
    nn.Dense(4, initializer="he_normal"),
)


def begun(layers=LAYERS, **changes):
    """Return the weights before the first step, which are the first average too."""
    settings = {"model": layers, "loss": "cross_entropy", "data": (X, Y), "optimizer": Adam(average=0.9), "seed": 4}
    settings |= {"batch_size": 10, "epochs": 0, "shards": 2, "quiet": True, "divide_state": "divide" in words}
    return fit(**settings | changes).weights


def message(weights):
    try:
        begun(weights=weights)
    except UserError as error:
        return str(error)
    raise AssertionError("refused nothing")


for dtype in ("float32", "float64"):
    initial = nn.initial_parameters(nn.Sequential(*LAYERS), X[:2].astype(dtype), 4, dtype)
    expected = digest_arrays(initial.parameters | nn.running_arrays(initial.running))
    assert digest_arrays(begun(dtype=dtype)) == expected

other = {name: 2 * array + np.float32(0.5) for name, array in begun().items()}
assert digest_arrays(begun(weights=other, out=folder)) == digest_arrays(other)
assert digest_arrays(begun(weights=folder)) == digest_arrays(other)
assert digest_arrays(begun(weights=other, out=folder)) == digest_arrays(other)  # resumed
plain = begun(optimizer=Adam(), weights=folder)
assert digest_arrays(plain) == digest_arrays(other)

part = {"from": folder, "only": ["dense_1/*", "dense_2/*", "batch_norm*"]}
mixed = begun() | {name: array for name, array in other.items() if name.startswith(("dense_1/", "dense_2/", "batch_n"))}
for frozen in ((), ("dense_1/*", "batch_norm_1/*", "dense_4/bias")):
    assert digest_arrays(begun(weights=part, frozen=frozen)) == digest_arrays(mixed)
    assert digest_arrays(begun(frozen=frozen)) == digest_arrays(begun())
trained = begun(weights=part, frozen=("dense_1/*", "batch_norm_1/*"), epochs=1)
assert [name for name in other if not (trained[name] == mixed[name]).all()] == [
    name for name in other if not name.startswith(("dense_1/", "batch_norm_1/"))
]

begun((nn.Dense(9), nn.Dense(4)), out=f"{folder}-9")
told = message(f"{folder}-9")
assert "-9: 'dense_1/weight' has shape (37, 9), but the model needs (37, 301)" in told, told
assert "weights: 'dense_2/bias' is missing" in message({n: a for n, a in other.items() if n != "dense_2/bias"})
told = message(other | {"dense_2/bias": other["dense_1/bias"]})
assert "weights: 'dense_2/bias' has shape (301,), but the model needs (70,)" in told, told
assert "the model has no 'dense_9/bias'" in message(other | {"dense_9/bias": other["dense_1/bias"]})
if comm.rank == 0:
    print("begins as one process would")

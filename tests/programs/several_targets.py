"""Train on two inputs and three targets with weights and a mask; print digests of weights, history and predictions.

Started by tests/cost/test_joint.py.
"""

import numpy as np

import dbp
import dbp.autodiff as ad
from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.parallel import world

ROWS, RNG = 11, np.random.default_rng(0)
MASK = np.arange(6) < RNG.integers(1, 7, (ROWS, 1))
SERIES, META = RNG.standard_normal((ROWS, 6, 3)), RNG.standard_normal((ROWS, 4))
TARGETS = {
    "positions": RNG.standard_normal((ROWS, 6, 2)),
    "label": RNG.integers(0, 3, ROWS),
    "energy": RNG.standard_normal(ROWS),
}
# The first shard of four has no weight at all for the energy, and one example has none for two targets.
WEIGHTS = {"label": RNG.random(ROWS), "energy": RNG.random(ROWS) * (np.arange(ROWS) > 3)}
WEIGHTS["label"][7] = WEIGHTS["energy"][7] = 0
LOSS = {"positions": "mean_squared_error", "label": "cross_entropy", "energy": {"kind": "huber", "weight": 0.3}}
INPUTS = {"inputs": {"series": SERIES, "meta": META}, "mask": {"series": MASK}}


def model(scope, x):
    """Return an output for each position of a masked series, a class and a number, and one that has no target."""
    mask = scope.masks.get("series")
    positions = nn.Dense(5, "tanh")(scope.inside("series", mask), x["series"])
    counts = np.ones(np.shape(positions)[:2]) if mask is None else mask
    pooled = ad.sum_(positions * counts[..., None].astype(positions.dtype), axis=1)
    both = ad.concatenate(pooled, nn.Dense(4, "tanh")(scope.inside("meta", None), x["meta"]), axis=1)
    scope.pass_mask({"positions": mask})
    return {
        "positions": nn.Dense(2)(scope.inside("of positions", mask), positions),
        "label": nn.Dense(3)(scope.inside("of label", None), both),
        "unused": both,
        "energy": nn.Dense(1)(scope.inside("of energy", None), both),
    }


def main():
    """Train with three optimizers; print a line for each on rank 0."""
    data = {**INPUTS, "targets": TARGETS, "weights": WEIGHTS}
    for optimizer in ["adam", dbp.optim.Newton(), dbp.optim.LBFGS()]:
        result = dbp.fit(
            model=model,
            loss=LOSS,
            data=dbp.Data(data, validation=data),
            optimizer=optimizer,
            epochs=2,
            batch_size=6 if optimizer == "adam" else "all",
            shards=5,
            metrics={"label": ["accuracy", "auc"], "energy": ["r2"], "positions": ["rmse"]},
            quiet=True,
        )
        history = {name: np.array(column) for name, column in result.history.items() if name != "seconds"}
        predicted = result.predict(INPUTS)
        if world().rank == 0:
            print(*map(digest_arrays, (result.weights, history, predicted)))


if __name__ == "__main__":
    main()

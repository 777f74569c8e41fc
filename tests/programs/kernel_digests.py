"""Digests of every layer, activation, loss and optimizer in both types, or of those whose names begin with a word.

Started by tests/test_kernels.py.
"""

import itertools
import math
import sys

import numpy as np

import dbp
import dbp.autodiff as ad
from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.nn.activations import ACTIVATIONS
from dbp.optim import KFAC, LBFGS, OPTIMIZERS, LevenbergMarquardt, Newton, Scipy
from dbp.optim.scipy_driver import METHODS
from tests.nn.models import DRAW, inputs, start
from tests.nn.test_layers import CASES, CONSTANTS, several_in_one

EXAMPLES, CLASSES = 24, 5
LAYERS = {f"layer {name}": case for name, case in CASES.items()}
LAYERS |= {f"activation {name}": (nn.Activation(name), (37,)) for name in ACTIVATIONS}
# Longer sums than one block of OpenBLAS's products, and many channels.
LAYERS |= {
    "layer long": (nn.Dense(70), (900,)),
    "layer wide": (nn.Conv2d(70, 3), (5, 5, 70)),
    "layer depth-wise": (nn.Conv2d(70, 3, "relu", stride=2, padding=1, groups=70), (9, 7, 70)),
    "layer sequences": (nn.Conv1d(32, 9, "relu", padding="same"), (40, 24)),
}
RNG = np.random.default_rng(0)
OUTPUTS = 3 * RNG.standard_normal((EXAMPLES, CLASSES))
TARGETS = dict.fromkeys(nn.LOSSES, np.tanh(OUTPUTS[::-1]))
TARGETS |= dict.fromkeys(("cross_entropy", "hinge"), RNG.integers(0, CLASSES, EXAMPLES))
TARGETS |= {"binary_cross_entropy": (OUTPUTS[::-1] > 0) * 1.0, "kullback_leibler": RNG.dirichlet(np.ones(5), EXAMPLES)}
SECOND_ORDER = {
    "lbfgs": LBFGS(),
    "newton": Newton(iterations=4),
    "newton in a trust region": Newton("hessian", "trust_region", iterations=4),
    "kfac": KFAC(0.01),
    "levenberg_marquardt": LevenbergMarquardt(),
    **{f"scipy {name}": Scipy(name) for name in METHODS},
}
OPTIMIZER = {kind: method(0.01) for kind, method in OPTIMIZERS.items() if method.is_first_order} | SECOND_ORDER
assert {method.kind for method in OPTIMIZER.values()} == set(OPTIMIZERS)


def of_layer(layer, shape, dtype):
    """Return the outputs of a layer and its gradients."""
    is_table = isinstance(layer, nn.Embedding)
    if shape and isinstance(shape[0], tuple):  # of a layer of several values
        layer, shape = several_in_one(layer, shape), (sum(map(math.prod, shape)),)
    x = RNG.integers(0, 4, (EXAMPLES, *shape)) if is_table else inputs(EXAMPLES, *shape).astype(dtype)
    parameters, running = start(layer, x, dtype)
    leaves = {path: ad.Tensor(array) for path, array in parameters.items() if path not in CONSTANTS}
    leaves |= {} if is_table else {"x": ad.Tensor(x)}
    output = layer(nn.Scope(nn.call_with(parameters | leaves, running, DRAW)), leaves.get("x", x))
    return [output.value, *ad.pullback(output, np.sin(output.value), [*leaves.values()])]


def of_loss(kind, dtype):
    """Return the losses of some outputs and their gradient."""
    outputs, loss, targets = ad.Tensor(OUTPUTS.astype(dtype)), nn.LOSSES[kind](), TARGETS[kind]
    targets = targets.astype(dtype) if targets.dtype.kind == "f" else targets
    losses = nn.weighted_losses(loss, outputs, targets, None)
    return [losses.value, *ad.pullback(losses, np.ones(losses.shape, dtype), [outputs])]


def of_optimizer(method, dtype):
    """Return the weights after a few epochs."""
    x = np.random.default_rng(1).standard_normal((EXAMPLES, 19))
    y = np.tanh(x[:, :CLASSES])
    return dbp.fit(
        model=[nn.Dense(11, "tanh"), nn.Dense(CLASSES)],
        loss="mean_squared_error",
        data=(x, y),
        optimizer=method,
        epochs=3,
        batch_size=8 if method.is_first_order else EXAMPLES,
        shards=2,
        dtype=dtype,
        quiet=True,
    ).weights


CALLS = {name: (of_layer, case) for name, case in LAYERS.items()}
CALLS |= {f"loss {kind}": (of_loss, (kind,)) for kind in nn.LOSSES}
CALLS |= {f"optimizer {name}": (of_optimizer, (method,)) for name, method in OPTIMIZER.items()}
for dtype, (name, (function, arguments)) in itertools.product(("float32", "float64"), CALLS.items()):
    if name.startswith(sys.argv[1] if sys.argv[1:] else ""):
        found = function(*arguments, dtype)
        named = found if isinstance(found, dict) else dict(zip(map(str, itertools.count()), found, strict=False))
        print(f"{dtype} {name}: {digest_arrays(named)}")

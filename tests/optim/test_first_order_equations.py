"""First-order methods that PyTorch lacks, step for step by the equations of their papers."""

import numpy as np
import pytest

from dbp.optim import LAMB, LARS, Lion, Muon
from tests.optim.noisy_objective import STEPS, Noisy, trained


def by_equations(update, objective, count=STEPS):
    """Return what trained() returns; update(name, w, g, memory, t) returns w, memory is a parameter's own dict."""
    named = objective.named(objective.start.astype(float))
    memory = {name: {} for name in named}
    for t in range(1, count + 1):
        noise = objective.named(objective.noise(t).astype(float))
        named = {name: update(name, w, noise[name] + w, memory[name], t) for name, w in named.items()}
        yield np.concatenate([w.reshape(-1) for w in named.values()])


def lion(name, w, g, memory, t):  # noqa: ARG001
    m, decay = memory.get("m", 0 * w), 0.1 * (w.ndim > 1)
    step = np.sign(0.9 * m + 0.1 * g)
    memory["m"] = 0.99 * m + 0.01 * g
    return w - 0.01 * (step + decay * w)


def lars(name, w, g, memory, t):  # noqa: ARG001
    decay = 0.1 * (w.ndim > 1)
    norm_w, norm_g = np.linalg.norm(w), np.linalg.norm(g)
    rate = 0.02 * norm_w / (norm_g + decay * norm_w) if w.ndim > 1 and w.size else 1
    memory["v"] = 0.8 * memory.get("v", 0) + 0.5 * rate * (g + decay * w)
    return w - memory["v"]


def lamb(name, w, g, memory, t):  # noqa: ARG001
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    r = memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 1e-6) + 0.1 * (w.ndim > 1) * w
    return w - 0.05 * (np.linalg.norm(w) / np.linalg.norm(r) if w.size else 1) * r


def muon(name, w, g, memory, t):
    if name == "kernel":
        memory["m"] = 0.95 * memory.get("m", 0) + g
        u = (g + 0.95 * memory["m"]).reshape(12, 5)
        return 0.998 * w - 0.02 * newton_schulz(u).reshape(w.shape)
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    w = w - 1e-2 * 0.1 * (w.ndim > 1) * w
    return w - 1e-2 * memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 1e-8)


def newton_schulz(x):
    """Apply the polynomial 3.4445 s - 4.775 s^3 + 2.0315 s^5 to the singular values, five times."""
    u, s, vt = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u * s @ vt


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("method", "update"),
    [
        (Lion(0.01, weight_decay=0.1), lion),
        (LARS(0.5, 0.8, trust=0.02, weight_decay=0.1), lars),
        (LAMB(0.05, weight_decay=0.1), lamb),
        (Muon(0.02, weight_decay=0.1, adamw_learning_rate=1e-2, matrices=("kernel",)), muon),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_step_for_step_by_their_equations(method, update, dtype):
    objective = Noisy(dtype)
    expected = list(by_equations(update, objective))
    for found, flat in zip(trained(method, objective)[0], expected, strict=True):
        np.testing.assert_allclose(
            found, flat, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-4 * (dtype is np.float32)
        )
